"""How fast is it beside others? Run by hand: python -m tests.speed --help."""
