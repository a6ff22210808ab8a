"""Bit-accurate NumPy model of the accelerator: an independent reference for the generated Verilog.

Uses numpy, scipy and the bundle reader, and nothing else of `sgq_hw`.
"""
