"""What an accelerator costs on an FPGA: devices, memories and the rules that map them."""
