"""The public names of this room, and where each is defined."""

from hf_untangle.nets.neuron_search import NeuronTicket as NeuronTicket
from hf_untangle.nets.neuron_search import search_neurons as search_neurons
from hf_untangle.nets.record import Ticket as Ticket
from hf_untangle.nets.search_config import NetsConfig as NetsConfig
from hf_untangle.nets.search_config import NeuronNetsConfig as NeuronNetsConfig
from hf_untangle.nets.ticket_search import search as search
