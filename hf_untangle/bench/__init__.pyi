"""The public names of this room, and where each is defined."""

from hf_untangle.bench.facts import bench_facts as bench_facts
from hf_untangle.bench.facts_config import FactsBenchConfig as FactsBenchConfig
from hf_untangle.bench.facts_record import FactsBenchRecord as FactsBenchRecord
from hf_untangle.bench.methods import bench_methods as bench_methods
from hf_untangle.bench.methods_config import MethodsBenchConfig as MethodsBenchConfig
from hf_untangle.bench.methods_record import Cell as Cell
from hf_untangle.bench.methods_record import MethodsBenchRecord as MethodsBenchRecord
from hf_untangle.bench.published import bench_published as bench_published
from hf_untangle.bench.published_config import PublishedBenchConfig as PublishedBenchConfig
from hf_untangle.bench.published_table import PublishedBenchRecord as PublishedBenchRecord
