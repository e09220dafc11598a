"""The only code that knows both Faust and the engine. It overrides each part of Faust that the engine replaces once."""
