"""Building and running simulations, and the cocotb side of the test benches."""
