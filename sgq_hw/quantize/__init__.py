"""Quantisation: bit configuration, calibration, fine-tuning, and the step into integers."""
