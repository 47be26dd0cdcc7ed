"""What capplan costs: plain scripts, each a table on the terminal and a JSON beside it."""
