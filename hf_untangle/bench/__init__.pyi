"""The public names of this room, and where each is defined."""

from hf_untangle.bench.facts import bench_facts as bench_facts
from hf_untangle.bench.facts_config import FactsBenchConfig as FactsBenchConfig
from hf_untangle.bench.facts_record import FactsBenchRecord as FactsBenchRecord
