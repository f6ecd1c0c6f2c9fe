"""What removed neurons contributed, made up for by those that stay."""

from hf_untangle.doors import open_door

open_door(__name__)
