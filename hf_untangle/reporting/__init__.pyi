"""The public names of this room, and where each is defined."""

from hf_untangle.reporting.adapter_path import adapter_path_card as adapter_path_card
from hf_untangle.reporting.density import density_curves as density_curves
from hf_untangle.reporting.model_card import model_card as model_card
