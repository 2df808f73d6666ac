"""Files that are made to exhaust their reader, and what reading them costs."""
