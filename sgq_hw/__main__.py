"""Run the command line as `python -m sgq_hw`."""

from sgq_hw.cli import main

if __name__ == "__main__":
    main()
