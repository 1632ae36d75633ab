"""How much of an image lies at which spatial frequency."""
