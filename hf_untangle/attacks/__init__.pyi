"""The public names of this room, and where each is defined."""

from hf_untangle.attacks.report import AttackReport as AttackReport
from hf_untangle.attacks.run import attack as attack
