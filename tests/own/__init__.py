"""What somebody has installed beside Sottovoce."""
