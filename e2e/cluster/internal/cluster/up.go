package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"valerix.io/cluster/internal/address"
	"valerix.io/cluster/internal/image"
	"valerix.io/cluster/internal/layout"
	"valerix.io/cluster/internal/lock"
	"valerix.io/cluster/internal/network"
	"valerix.io/cluster/internal/preflight"
	"valerix.io/cluster/internal/process"
)

// UpOptions say which cluster to bring up, and how.
type UpOptions struct {
	State   layout.StateDir
	Cluster layout.Cluster
	Cache   string   // Folder of the image archives.
	Index   int      // Of the addresses; 0 chooses the lowest that is free.
	Images  []string // To load beyond those that every cluster needs.
	Timeout time.Duration
	Out     io.Writer // Of the progress.
}

// neededImages are those without which no pod runs.
var neededImages = []string{"pause", "base"}

// Up brings a cluster up and returns when pods can be made in it. What already is as it should be is left alone.
func Up(ctx context.Context, options UpOptions) error {
	ctx, cancel := context.WithTimeoutCause(ctx, options.Timeout,
		fmt.Errorf("not ready after %s (`--timeout` gives it longer)", options.Timeout))
	defer cancel()
	progress := &Progress{Out: options.Out, Cluster: options.Cluster.Name}
	progress.Begin()

	recipes, err := recipesOf(append(slices.Clone(neededImages), options.Images...))
	if err != nil {
		return err
	}
	if err := checkHost(options.Cache, recipes); err != nil {
		return err
	}
	held, err := lock.Acquire(ctx, options.Cluster.Lock(), "up")
	if err != nil {
		return fmt.Errorf("failed to wait for the running `cluster up` or `cluster down`: %w", cause(ctx, err))
	}
	defer held.Release()

	archives, err := ensureImages(ctx, options.Cache, recipes, progress)
	if err != nil {
		return cause(ctx, err)
	}
	if err := keepsIndex(options); err != nil {
		return err
	}
	node := options.Cluster.Node(1)
	running, err := nodeProcess(node)
	if err != nil {
		return err
	}
	started := !running.Alive()
	var plan address.Plan
	if started {
		if plan, err = choosePlan(options); err != nil {
			return err
		}
		done := progress.Step()
		if running, err = start(options.State, options.Cluster, node, plan); err != nil {
			return err
		}
		done("started %s at %s", node.Name, plan.Node(1))
	} else {
		known, _, err := loadRecord(options.Cluster)
		if err != nil {
			return err
		}
		if plan, err = address.ForIndex(known.Index); err != nil {
			return err
		}
	}
	if err := bringUp(ctx, options.Cluster, node, running, plan, archives, progress); err != nil {
		if interrupted(ctx) && started {
			_ = running.Signal(syscall.SIGKILL) // Interrupted: leave nothing half done behind.
		}
		return cause(ctx, err)
	}
	progress.End("ready; export KUBECONFIG=%s", options.Cluster.Kubeconfig())
	return nil
}

// bringUp waits for what starts by itself and adds what does not. The images are loaded while the API server starts.
func bringUp(
	ctx context.Context, cluster layout.Cluster, node layout.Node, running process.Identity, plan address.Plan,
	archives []string, progress *Progress,
) error {
	waiter, err := newWaiter(cluster, node, running)
	if err != nil {
		return err
	}
	group, together := errgroup.WithContext(ctx)
	group.Go(func() error {
		done := progress.Step()
		if err := waiter.containerd(together); err != nil {
			return err
		}
		loaded, err := loadOnce(together, node, running, archives)
		if loaded > 0 {
			done("loaded %d images", loaded)
		}
		return err
	})
	group.Go(func() error {
		done := progress.Step()
		if err := waiter.api(together); err != nil {
			return err
		}
		done("API server ready at %s", plan.Server())
		done = progress.Step()
		if err := waiter.addons(together, plan); err != nil {
			return err
		}
		done("applied DNS and storage class")
		done = progress.Step()
		if err := waiter.node(together); err != nil {
			return err
		}
		done("node %s ready", node.Name)
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	done := progress.Step()
	if err := waiter.dns(ctx, plan); err != nil {
		return err
	}
	done("DNS answers at %s", plan.DNS())
	return nil
}

// choosePlan gives a cluster its addresses, once and for all, and refuses those that the host uses.
func choosePlan(options UpOptions) (address.Plan, error) {
	// The lock is shared by all clusters of the host that use this state folder.
	held, err := lock.Acquire(context.Background(), filepath.Join(string(options.State), "locks", ".indices.lock"), "index")
	if err != nil {
		return address.Plan{}, err
	}
	defer held.Release()
	known, found, err := loadRecord(options.Cluster)
	if err != nil {
		return address.Plan{}, err
	}
	taken, err := indices(options.State, options.Cluster.Name)
	if err != nil {
		return address.Plan{}, err
	}
	links, err := network.TakenIndices()
	if err != nil {
		return address.Plan{}, err
	}
	for index, by := range links {
		if _, named := taken[index]; !named && !(found && index == known.Index) {
			taken[index] = by
		}
	}
	index, err := chooseIndex(known.Index, options.Index, taken)
	if err != nil {
		return address.Plan{}, err
	}
	plan, err := address.ForIndex(index)
	if err != nil {
		return address.Plan{}, err
	}
	routes, err := network.HostRoutes()
	if err != nil {
		return address.Plan{}, err
	}
	if err := plan.Overlap(routes); err != nil {
		return address.Plan{}, err
	}
	return plan, writeJSON(options.Cluster.Record(), record{Index: index})
}

// keepsIndex refuses to move a cluster: its addresses are in its certificates and stored objects.
func keepsIndex(options UpOptions) error {
	known, found, err := loadRecord(options.Cluster)
	if err == nil && found && options.Index != 0 && options.Index != known.Index {
		return fmt.Errorf("cluster %s has index %d for as long as it lives; `cluster down --name %s` first to give it another",
			options.Cluster.Name, known.Index, options.Cluster.Name)
	}
	return err
}

// chooseIndex prefers the index that the cluster has, then the one asked for, then the lowest that is free.
func chooseIndex(known, asked int, taken map[int]string) (int, error) {
	wanted := known
	if wanted == 0 {
		wanted = asked
	}
	if wanted == 0 {
		return address.LowestFree(taken)
	}
	if by, used := taken[wanted]; used {
		return 0, fmt.Errorf("cluster index %d is taken by %s; end that, or choose another with `cluster up --index N`", wanted, by)
	}
	return wanted, nil
}

func recipesOf(names []string) (recipes []image.Recipe, err error) {
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		recipe, err := image.Find(name)
		if err != nil {
			return nil, err
		}
		recipes = append(recipes, recipe)
	}
	return recipes, nil
}

// checkHost looks for what is missing before anything is done. What only builds images is needed only for images
// that are not in the cache.
func checkHost(cache string, recipes []image.Recipe) error {
	facts, err := preflight.Look()
	if err != nil {
		return err
	}
	var programs []string
	for _, recipe := range recipes {
		if !(image.Cache{Dir: cache}).Has(recipe) {
			programs = append(programs, recipe.Programs()...)
		}
	}
	slices.Sort(programs)
	if problems := preflight.Examine(facts, slices.Compact(programs)); len(problems) > 0 {
		return preflight.Error(problems)
	}
	return nil
}

func ensureImages(ctx context.Context, cache string, recipes []image.Recipe, progress *Progress) ([]string, error) {
	var archives []string
	for _, recipe := range recipes {
		done := progress.Step()
		built := false
		path, err := image.Cache{Dir: cache, Progress: func(string) { built = true }}.Ensure(ctx, recipe, false)
		if err != nil {
			return nil, err
		}
		if built {
			done("prepared the image %s", recipe.Reference)
		}
		archives = append(archives, path)
	}
	return archives, nil
}

// interrupted says whether somebody asked the command to stop; a timeout is not that.
func interrupted(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// cause puts the reason why a context ended before what happened to be under way.
func cause(ctx context.Context, err error) error {
	switch {
	case ctx.Err() == nil:
		return err
	case interrupted(ctx):
		return fmt.Errorf("interrupted: %w", err)
	}
	return fmt.Errorf("%w: %w", context.Cause(ctx), err)
}
