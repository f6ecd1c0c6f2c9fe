"""The public names of this room, and where each is defined."""

from hf_untangle.compensation.reconstruct import reconstruct as reconstruct
from hf_untangle.compensation.refit import Compensation as Compensation
from hf_untangle.compensation.refit import Refit as Refit
from hf_untangle.compensation.refit import least_squares as least_squares
from hf_untangle.compensation.refit import refitted as refitted
