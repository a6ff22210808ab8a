"""The one family of errors that a user can meet; the CLI prints each as one line."""


class SgqError(Exception):
    """Base of all errors raised on purpose by this package."""


class InputError(SgqError):
    """What the user gave cannot be used.

    The message is one line that names the file, the field and the reason. The CLI exits with 2.
    """


class ToolError(SgqError):
    """An external tool (Verilator, g++, Yosys) is missing, too old, or failed.

    The CLI exits with 2.
    """


class SourceError(ToolError):
    """A tool refuses the Verilog that it was given, or fails on it."""
