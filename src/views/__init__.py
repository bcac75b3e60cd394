"""What a result looks like: its tables, its figures, its sentence, wherever it is seen."""
