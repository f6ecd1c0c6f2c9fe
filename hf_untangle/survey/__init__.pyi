"""The public names of this room, and where each is defined."""

from hf_untangle.survey.support import Support as Support
