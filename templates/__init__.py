"""Jinja2 templates of the generated Verilog, one per hardware unit, named after it."""
