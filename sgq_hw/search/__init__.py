"""Automatic bit selection: the least memory whose validation accuracy drops little enough.

SGQuant's auto-bit selection (Feng et al. 2020, "SGQuant: Squeezing the Last Bit on Graph Neural
Networks with Specialized Quantization") and two baselines over one interface.
"""
