import { createRootRoute, createRoute, createRouter } from "@tanstack/react-router";
import { Backups } from "./pages/Backups";
import { Chaos } from "./pages/Chaos";
import { Events } from "./pages/Events";
import { ExperimentPage } from "./pages/Experiment";
import { Layout } from "./pages/Layout";
import { Metrics } from "./pages/Metrics";
import { Orders } from "./pages/Orders";
import { Overview } from "./pages/Overview";
import { RestorePage } from "./pages/Restore";
import { ServicePage } from "./pages/Service";
import { Notice } from "./parts/parts";

const root = createRootRoute({
  component: Layout,
  notFoundComponent: () => (
    <>
      <h1>No such page</h1>
      <Notice title="There is nothing at this address.">Choose one from the list of pages.</Notice>
    </>
  ),
});
const page = <P extends string>(path: P, component: () => React.ReactNode) =>
  createRoute({ getParentRoute: () => root, path, component });

/** Every page. */
export const tree = root.addChildren([
  page("/", Overview),
  page("/services/$namespace/$name", ServicePage),
  page("/chaos", Chaos),
  page("/chaos/$namespace/$name", ExperimentPage),
  page("/orders", Orders),
  page("/backups", Backups),
  page("/restores/$namespace/$name", RestorePage),
  page("/metrics", Metrics),
  page("/events", Events),
]);

export const router = createRouter({ routeTree: tree });

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}
