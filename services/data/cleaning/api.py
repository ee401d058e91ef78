"""The RPCs of recipes."""

from aimass.v1 import operations_pb2
from aimass.v1 import recipes_pb2 as pb
from services.data.cleaning.domain import RecipeView, Run
from services.data.cleaning.service import Previews, Recipes
from services.data.cleaning.wire import preview_to_wire, proposal_to_wire, recipe_to_wire, run_to_wire, steps_from_wire
from services.data.metering.domain import CpuBudget
from services.kit.rpc import Call


def _operation(begun: tuple[Run, operations_pb2.Operation]) -> operations_pb2.Operation:
    return begun[1]


class RecipesApi:
    """aimass.v1.Recipes."""

    def __init__(self, recipes: Recipes, previews: Previews) -> None:
        self._recipes, self._previews = recipes, previews

    async def CreateRecipe(self, request: pb.CreateRecipeRequest, call: Call) -> pb.Recipe:
        made = (request.recipe, request.description, request.data_set, request.output_data_set)
        once = call.once(recipe_to_wire)
        return recipe_to_wire(await self._recipes.create(call.scope, made, steps_from_wire(request.steps), once))

    async def CreateRecipeVersion(self, request: pb.CreateRecipeVersionRequest, call: Call) -> pb.Recipe:
        steps, once = steps_from_wire(request.steps), call.once(recipe_to_wire)
        return recipe_to_wire(await self._recipes.extend(call.scope, request.recipe, steps, once))

    async def GetRecipe(self, request: pb.GetRecipeRequest, call: Call) -> pb.Recipe:
        return await self._seen(await self._recipes.get(call.scope, request.recipe, request.version), call)

    async def ListRecipes(self, request: pb.ListRecipesRequest, call: Call) -> pb.ListRecipesResponse:
        found = await self._recipes.list(call.scope, request.page_size, request.page_token, request.show_deleted)
        recipes = [await self._seen(view, call) for view in found.items]
        return pb.ListRecipesResponse(recipes=recipes, next_page_token=found.next_token)

    async def RunRecipe(self, request: pb.RunRecipeRequest, call: Call) -> operations_pb2.Operation:
        budget, once = CpuBudget(call.principal.id, request.cpu_seconds), call.once(_operation)
        versions = (request.version, request.data_set_version)
        return _operation(await self._recipes.run(call.principal, request.recipe, versions, once, budget))

    async def GetRecipeRun(self, request: pb.GetRecipeRunRequest, call: Call) -> pb.RecipeRun:
        run = await self._recipes.run_of(call.scope, request.recipe, request.run)
        return run_to_wire(run, await self._recipes.hidden(call.principal, (run.data_set, run.output)))

    async def ListRecipeRuns(self, request: pb.ListRecipeRunsRequest, call: Call) -> pb.ListRecipeRunsResponse:
        found = await self._recipes.runs(call.scope, request.recipe, request.page_size, request.page_token)
        return pb.ListRecipeRunsResponse(runs=map(run_to_wire, found.items), next_page_token=found.next_token)

    async def PreviewRecipe(self, request: pb.PreviewRecipeRequest, call: Call) -> pb.PreviewRecipeResponse:
        budget, reservation = CpuBudget(call.principal.id, request.cpu_seconds), call.metadata.get("reservation", "")
        steps, place = steps_from_wire(request.steps), (request.data_set, request.version)
        found = await self._previews.preview(
            call.principal, place, steps, request.rows, call.remaining(), budget, reservation
        )
        return preview_to_wire(found)

    async def ProposeRecipe(self, request: pb.ProposeRecipeRequest, call: Call) -> pb.ProposeRecipeResponse:
        budget, reservation = CpuBudget(call.principal.id, request.cpu_seconds), call.metadata.get("reservation", "")
        place = (request.data_set, request.version)
        found = await self._previews.propose(call.principal, place, request.rows, call.remaining(), budget, reservation)
        return proposal_to_wire(found)

    async def DeleteRecipe(self, request: pb.DeleteRecipeRequest, call: Call) -> pb.Recipe:
        return await self._seen(await self._recipes.delete(call.scope, request.recipe, call.etag), call)

    async def UndeleteRecipe(self, request: pb.UndeleteRecipeRequest, call: Call) -> pb.Recipe:
        return await self._seen(await self._recipes.undelete(call.scope, request.recipe), call)

    async def _seen(self, view: RecipeView, call: Call) -> pb.Recipe:
        """Without values of columns that the caller must not see; what is hidden is asked only where there are some."""
        data_sets = (view.recipe.data_set, view.recipe.output) if view.version.tells else ()
        return recipe_to_wire(view, await self._recipes.hidden(call.principal, data_sets))
