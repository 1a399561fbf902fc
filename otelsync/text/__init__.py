"""Text for people: what is harmless to print, quantities, colours."""
