"""How much likelier wrong answers are than a right one."""
