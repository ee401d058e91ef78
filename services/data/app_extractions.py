"""How the slices of extractions and of the warehouse are put together."""

from services.data.attachments.keeping import Keeping
from services.data.attachments.store import AttachmentStore
from services.data.config import Config
from services.data.datasets.service import DataSets
from services.data.extractions.inputs import Inputs
from services.data.extractions.replays import Replays
from services.data.extractions.runner import ExtractionRunner
from services.data.extractions.service import Extractions
from services.data.extractions.store import ExtractionStore
from services.data.metering.service import Metering
from services.data.rule_sets.service import RuleSets
from services.data.rules.service import Rules
from services.data.sources.service import Sources
from services.data.warehouse.samples import LandedSamples
from services.data.warehouse.service import Warehouse
from services.data.warehouse.store import WarehouseStore
from services.kit.app import Runtime
from services.kit.db import Database
from services.kit.process import Limits


def extracting(
    config: Config,
    runtime: Runtime,
    database: Database,
    store: ExtractionStore,
    sources: Sources,
    rules: Rules,
    rule_sets: RuleSets,
    data_sets: DataSets,
    metering: Metering,
) -> tuple[Extractions, ExtractionRunner]:
    """The slice of extractions, and the warehouse that they land in."""
    limits = Limits(config.extraction_seconds, config.extraction_memory_mib)
    warehouse = Warehouse(WarehouseStore(database), sources, data_sets, metering, limits, runtime.now)
    sources.was_read, sources.landed = store.read_from, LandedSamples(warehouse, data_sets).opened
    inputs = Inputs(store, sources, warehouse, config.landed_records_at_once)
    around = (metering, runtime.now, runtime.spawn)
    most = config.download_mib * 2**20
    keeping = Keeping(AttachmentStore(database), runtime.blobs, runtime.settings.egress_allow, most)
    runner = ExtractionRunner(store, inputs, data_sets, *around, limits, config.extractions_at_once, keeping)
    replays = Replays(store, rules, sources, warehouse, data_sets)
    return Extractions(store, rules, rule_sets, sources, data_sets, runner, runtime.now, replays), runner
