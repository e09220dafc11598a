"""The only code that knows both Faust and the engine: Faust's own seams, each overridden once."""
