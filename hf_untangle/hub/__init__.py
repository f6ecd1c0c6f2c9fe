"""The Hugging Face Hub: folders go up, files come down, cards say what they are."""

from hf_untangle.doors import open_door

open_door(__name__)
