"""The parent of a program under ``otelsync run``: hands on signals, ships what is recorded, ends as the program did."""
