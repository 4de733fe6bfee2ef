"""The command line: the one part that prints, exits and reads sys.argv."""
