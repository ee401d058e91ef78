"""How the data service is put together."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from services.data.app_extractions import extracting
from services.data.attachments.store import AttachmentStore
from services.data.cleaning.api import RecipesApi
from services.data.cleaning.runner import CleaningRunner
from services.data.cleaning.service import Previews, Recipes
from services.data.cleaning.store import RecipeStore
from services.data.config import Config
from services.data.database import open_database, schema
from services.data.datasets.api import DataSetsApi
from services.data.datasets.branches import Branches
from services.data.datasets.catalogue import Catalogue
from services.data.datasets.comparing import Comparisons
from services.data.datasets.divider import Divider
from services.data.datasets.hot import HotTables
from services.data.datasets.parents import of_parents
from services.data.datasets.queries import Queries
from services.data.datasets.service import DataSets
from services.data.datasets.store import Store as DataSetStore
from services.data.datasets.store.branches import BranchStore
from services.data.datasets.store.catalogue import CatalogueStore
from services.data.datasets.store.tags import TagStore
from services.data.datasets.tables import Tables, open_tables
from services.data.datasets.versions import Versions
from services.data.derived import derived_slices
from services.data.discovery.service import Discoveries
from services.data.expectations.api import ExpectationsApi
from services.data.expectations.service import DataSetExpectations, Inspector
from services.data.expectations.store import ExpectationStore
from services.data.extractions.api import ExtractionsApi
from services.data.extractions.events import extraction_ended
from services.data.extractions.store import ExtractionStore
from services.data.extractions.wire import extraction_to_wire
from services.data.features.api import FeatureSetsApi
from services.data.features.runner import FittingRunner
from services.data.features.service import FeatureSets
from services.data.features.store import Store as FeatureStore
from services.data.metering.service import Metering, ended
from services.data.pipelines.api import PipelinesApi
from services.data.pipelines.runner import PipelineRunner
from services.data.pipelines.service import Pipelines
from services.data.pipelines.store import Store as PipelineStore
from services.data.reading.places import Places
from services.data.repairs.api import RepairsApi
from services.data.repairs.runner import RepairRunner
from services.data.repairs.service import Repairs
from services.data.repairs.store import RepairStore
from services.data.rule_sets.api import RuleSetsApi
from services.data.rule_sets.events import rule_set_changed
from services.data.rule_sets.service import RuleSets
from services.data.rule_sets.store import RuleSetStore
from services.data.rules.api import RulesApi
from services.data.rules.events import rule_changed
from services.data.rules.service import Rules
from services.data.rules.store import RuleStore
from services.data.sources.api import SourcesApi
from services.data.sources.events import source_changed
from services.data.sources.pushes import Pushes
from services.data.sources.secrets import SourceSecrets
from services.data.sources.service import Sources
from services.data.sources.store import SourceStore
from services.data.sources.store.pushed import PushedStore
from services.data.sources.uploads import SourceUploads
from services.data.storage.service import Kept, Storage
from services.kit.app import App, Runtime
from services.kit.db import Database
from services.kit.egress import Egress
from services.kit.forgetting import dropping
from services.kit.leftovers import clear_for_ever
from services.kit.outbox import Publisher
from services.kit.process import Limits
from services.kit.tasks import every_hour
from services.kit.turns import Turns
from services.kit.uploads import collect_for_ever

Task = Callable[[], Coroutine[Any, Any, None]]
Now = Callable[[], datetime]


def build(config: Config, runtime: Runtime) -> App:
    """Composes the slices; each takes the services of those before it."""
    database = open_database(config.database_url.get_secret_value(), runtime.home, runtime.credentials)
    sources, uploads, handed_over, upkeep = _sources(config, runtime, database)
    tables = open_tables(runtime.storage, runtime.home / "tables")
    data_sets, catalogue = _data_sets(config, runtime, database, tables)
    metering, limits = Metering(database), Limits(config.query_seconds, config.query_memory_mib)
    asking = (data_sets, metering, limits, Turns(config.queries_at_once))
    hot = HotTables(config.hot_tables_mib * 2**20)
    queries, comparisons = Queries(*asking, hot), Comparisons(*asking)
    expectations = _expectations(config, runtime, database, data_sets, metering)
    extraction_store = ExtractionStore(database, extraction_ended, extraction_to_wire)
    versions = _versions(runtime, database, data_sets, extraction_store)
    rules, rule_sets = _rules(database, sources, extraction_store, runtime)
    discovering = Limits(config.discovery_seconds, config.discovery_memory_mib)
    discoveries = Discoveries(sources, metering, discovering, config.discoveries_at_once, runtime.settings.egress_allow)
    schema.operations.on_end = ended
    around = (metering, runtime.now, runtime.spawn)
    reading = sources, rules, rule_sets, data_sets, metering
    extractions, extractor = extracting(config, runtime, database, extraction_store, *reading)
    repairs = _repairs(RepairStore(database, runtime.now), rules, extractions, data_sets, *around, discovering)
    extraction_store.on_success.append(repairs.extracted)
    runner, pipelines = _pipelines(config, runtime, database, data_sets, metering)
    cleaner, recipes = _cleaning(config, runtime, database, asking)
    features, fitter = _features(config, runtime, database, data_sets, metering)
    derived = derived_slices(config, runtime, database, sources, data_sets, queries, features, around)
    kept = {"tables": data_sets.kept, "feature-sets": features.kept, **derived.kept, **handed_over}
    storage = Storage(Publisher(database, schema.outbox), kept)
    resumes = [extractor.resume, runner.resume, fitter.resume, cleaner.resume, *derived.start]
    return App(
        rpc=of_parents(
            {
                "aimass.v1.FeatureSets": FeatureSetsApi(features),
                "aimass.v1.Sources": SourcesApi(sources, uploads),
                "aimass.v1.Rules": RulesApi(rules, discoveries),
                "aimass.v1.RuleSets": RuleSetsApi(rule_sets),
                "aimass.v1.Repairs": RepairsApi(repairs),
                "aimass.v1.Extractions": ExtractionsApi(extractions),
                "aimass.v1.DataSets": DataSetsApi(data_sets, queries, comparisons, catalogue, *versions),
                "aimass.v1.Expectations": ExpectationsApi(expectations, data_sets),
                "aimass.v1.Pipelines": PipelinesApi(pipelines),
                "aimass.v1.Recipes": recipes,
                **derived.rpc,
            },
            data_sets,
        ),
        database=database,
        schema=schema,
        start=resumes,
        tasks=[
            partial(collect_for_ever, runtime.uploads),
            partial(every_hour, storage.measure, runtime.now),
            *[*upkeep, *derived.tasks],
            *(partial(schema.tenure.watch, each) for each in resumes),
            repairs.watch,
            hot.watch,
        ],
        close=[hot.close, tables.close, *derived.close],
        forget=[dropping(database, schema.metadata), hot.forget, *derived.forget],
    )


def _data_sets(config: Config, runtime: Runtime, database: Database, tables: Tables) -> tuple[DataSets, Catalogue]:
    store, limits = DataSetStore(database), Limits(config.pipeline_seconds, config.pipeline_memory_mib)
    data_sets = DataSets(store, tables, runtime.now, runtime.space)
    data_sets.divider = Divider(tables, limits, Turns(config.pipelines_at_once))
    return data_sets, Catalogue(store, CatalogueStore(database), runtime.now)


def _versions(
    runtime: Runtime, database: Database, data_sets: DataSets, extractions: ExtractionStore
) -> tuple[Versions, Branches]:
    versions = Versions(TagStore(database), data_sets, runtime.now)
    followers = (extractions, AttachmentStore(database))
    return versions, Branches(BranchStore(database), data_sets, followers, runtime.now)


def _repairs(store: RepairStore, rules: Rules, *around: Any) -> Repairs:
    return Repairs(store, rules, RepairRunner(store, rules, *around))


def _expectations(
    config: Config, runtime: Runtime, database: Database, data_sets: DataSets, metering: Metering
) -> DataSetExpectations:
    store, limits = ExpectationStore(database), Limits(config.query_seconds, config.query_memory_mib)
    data_sets.inspector = Inspector(store, data_sets, limits, Turns(config.queries_at_once))
    return DataSetExpectations(store, data_sets, metering, limits, Turns(config.queries_at_once), runtime.now)


def _features(
    config: Config, runtime: Runtime, database: Database, data_sets: DataSets, metering: Metering
) -> tuple[FeatureSets, FittingRunner]:
    store, limits = FeatureStore(database), Limits(config.fitting_seconds, config.fitting_memory_mib)
    runner = FittingRunner(store, data_sets, runtime.blobs, metering, runtime.now, runtime.spawn, limits)
    return FeatureSets(store, data_sets, runtime.blobs, runner, runtime.now), runner


def _pipelines(
    config: Config, runtime: Runtime, database: Database, data_sets: DataSets, metering: Metering
) -> tuple[PipelineRunner, Pipelines]:
    store, limits = PipelineStore(database), Limits(config.pipeline_seconds, config.pipeline_memory_mib)
    around = (metering, runtime.now, runtime.spawn, limits, config.pipelines_at_once)
    runner = PipelineRunner(store, data_sets, *around)
    return runner, Pipelines(store, data_sets, runner, runtime.now)


def _cleaning(
    config: Config,
    runtime: Runtime,
    database: Database,
    asking: tuple[DataSets, Metering, Limits, Turns],
) -> tuple[CleaningRunner, RecipesApi]:
    """The slice of recipes; previews take turns with queries."""
    store, (data_sets, metering, *_) = RecipeStore(database), asking
    limits = Limits(config.cleaning_seconds, config.cleaning_memory_mib)
    around = (metering, runtime.now, runtime.spawn)
    runner = CleaningRunner(store, data_sets, *around, limits, config.cleanings_at_once)
    return runner, RecipesApi(Recipes(store, data_sets, runner, runtime.now), Previews(*asking))


def _sources(
    config: Config, runtime: Runtime, database: Database
) -> tuple[Sources, SourceUploads, Mapping[str, Kept], Sequence[Task]]:
    """The slice of sources, what it stores, and what goes on for it beside requests."""
    store = SourceStore(database, source_changed)
    places = Places(config.file_roots, runtime.home, runtime.blobs, Egress(runtime.settings.egress_allow))
    uploads = SourceUploads(store, runtime.uploads, config.upload_mib * 2**20, runtime.now)
    pushes = Pushes(store, PushedStore(database), runtime.home / "pushed", runtime.now)
    sources = Sources(store, pushes, places, runtime.vault, runtime.now)
    upkeep: list[Task] = [SourceSecrets(store, runtime.vault).renew, partial(clear_for_ever, runtime.home / "pushed")]
    return sources, uploads, {"uploads": uploads.kept, "records": pushes.kept}, upkeep


def _rules(
    database: Database, sources: Sources, extractions: ExtractionStore, runtime: Runtime
) -> tuple[Rules, RuleSets]:
    """The slices of rules and rule sets."""
    sets = RuleSetStore(database, rule_set_changed)
    store = RuleStore(database, rule_changed, extractions.ran, sets.reports)
    rules = Rules(store, sources, runtime.now)
    return rules, RuleSets(sets, rules, sources, runtime.now)
