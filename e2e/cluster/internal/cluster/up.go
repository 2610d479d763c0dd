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
	Cache   string // Folder of the image archives.
	Index   int    // Of the addresses; 0 chooses the lowest that is free.
	Nodes   int    // 0 is as many as the cluster has, 1 for a new one.
	// FakeNodes are beside those, their pods are kwok's; 0 is as many as the cluster has.
	FakeNodes int
	Kwok      string   // Folder of the program kwok and its stages.yaml.
	Images    []string // To load beyond those that every cluster needs.
	Timeout   time.Duration
	Out       io.Writer // Of the progress.
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
	members, err := membersOf(options)
	if err != nil {
		return err
	}
	known, err := recordFor(options, members)
	if err != nil {
		return err
	}
	plan, err := address.ForIndex(known.Index)
	if err != nil {
		return err
	}
	started, err := startAll(options, members, plan, known.FakeNodes, progress)
	if err == nil {
		err = bringUp(ctx, options.Cluster, members, plan, archives, known.FakeNodes, progress)
	}
	if err != nil {
		if interrupted(ctx) {
			for _, running := range started {
				_ = running.Signal(syscall.SIGKILL) // Interrupted: leave nothing half done behind.
			}
		}
		return cause(ctx, err)
	}
	progress.End("ready; export KUBECONFIG=%s", options.Cluster.Kubeconfig())
	return nil
}

// member is a node that the cluster shall have.
type member struct {
	place   layout.Node
	running process.Identity // Not alive if the node is yet to be started.
}

// neighbour returns the first process of a member that lives, or one that does not if none does.
func neighbour(members []member) process.Identity {
	for _, member := range members {
		if member.running.Alive() {
			return member.running
		}
	}
	return process.Identity{}
}

func membersOf(options UpOptions) ([]member, error) {
	known, _, err := loadRecord(options.Cluster)
	if err != nil {
		return nil, err
	}
	count, err := chooseNodes(options.Cluster.Name, known.Nodes, options.Nodes)
	if err != nil {
		return nil, err
	}
	members := make([]member, count)
	for i := range members {
		place := options.Cluster.Node(i + 1)
		running, err := nodeProcess(place)
		if err != nil {
			return nil, err
		}
		members[i] = member{place, running}
	}
	return members, nil
}

// chooseNodes prefers the number that was asked for, which may be more than the cluster has and never less: what ran on
// a node that is taken away would have to go first.
func chooseNodes(name string, known, asked int) (int, error) {
	known = max(known, 1)
	switch {
	case asked == 0:
		return known, nil
	case asked < 0 || asked > address.MaxNodes:
		return 0, fmt.Errorf("a cluster has 1 to %d nodes, not %d", address.MaxNodes, asked)
	case asked < known:
		return 0, fmt.Errorf("cluster %s has %d nodes and keeps them for as long as it lives; `cluster down --name %s` first to give it %d",
			name, known, name, asked)
	}
	return asked, nil
}

// maxFakeNodes is more than anybody's scheduler has been tried with here.
const maxFakeNodes = 1000

// chooseFakeNodes prefers the number that was asked for, which may be more than the cluster has and never less. kwok is
// started with the first node, so one that runs without it goes on without.
func chooseFakeNodes(name string, known, asked int, controlRuns bool) (int, error) {
	switch {
	case asked == 0 || asked == known:
		return known, nil
	case asked < 0 || asked > maxFakeNodes:
		return 0, fmt.Errorf("a cluster has up to %d fake nodes, not %d", maxFakeNodes, asked)
	case asked < known:
		return 0, fmt.Errorf("cluster %s has %d fake nodes and keeps them for as long as it lives; `cluster down --name %s` first to give it %d",
			name, known, name, asked)
	case known == 0 && controlRuns:
		return 0, fmt.Errorf("cluster %s runs without fake nodes; `cluster down --name %s` first to give it some", name, name)
	}
	return asked, nil
}

// recordFor notes what the cluster is from now on. One that runs keeps its addresses, another is given some.
func recordFor(options UpOptions, members []member) (record, error) {
	known, _, err := loadRecord(options.Cluster)
	if err != nil {
		return record{}, err
	}
	fakes, err := chooseFakeNodes(options.Cluster.Name, known.FakeNodes, options.FakeNodes, members[0].running.Alive())
	if err != nil {
		return record{}, err
	}
	if fakes > 0 && options.Kwok == "" && !exists(options.Cluster.Kwok()) {
		return record{}, errors.New("fake nodes need kwok; `--kwok` names the folder of the program and its stages.yaml")
	}
	if neighbour(members).Alive() {
		known.Nodes, known.FakeNodes = len(members), fakes
		err = writeJSON(options.Cluster.Record(), known)
	} else {
		known, err = choosePlan(options, len(members), fakes)
	}
	// Last: a cluster that is refused leaves nothing behind.
	if err == nil && fakes > 0 {
		err = keepKwok(options)
	}
	return known, err
}

// keepKwok copies kwok and its stages to the cluster, which goes on without the originals.
func keepKwok(options UpOptions) error {
	if options.Kwok == "" {
		return nil
	}
	if err := copyProgram(filepath.Join(options.Kwok, "kwok"), options.Cluster.Kwok()); err != nil {
		return err
	}
	return copyProgram(filepath.Join(options.Kwok, "stages.yaml"), options.Cluster.Stages())
}

// startAll starts the members that do not run, puts them into the list and returns them.
func startAll(
	options UpOptions, members []member, plan address.Plan, fakes int, progress *Progress,
) (started []process.Identity, err error) {
	for i, member := range members {
		if member.running.Alive() {
			continue
		}
		done := progress.Step()
		running, err := start(options.State, options.Cluster, member.place, plan, fakes, neighbour(members))
		if err != nil {
			return started, err
		}
		members[i].running, started = running, append(started, running)
		done("started %s at %s", member.place.Name, plan.Node(member.place.Number))
	}
	return started, nil
}

// bringUp waits for what starts by itself and adds what does not. The images are loaded while the API server starts.
func bringUp(
	ctx context.Context, cluster layout.Cluster, members []member, plan address.Plan, archives []string, fakes int,
	progress *Progress,
) error {
	waiters := make([]*waiter, len(members))
	for i, member := range members {
		var err error
		if waiters[i], err = newWaiter(cluster, member.place, member.running); err != nil {
			return err
		}
	}
	control := waiters[0] // The control plane is on the first node.
	group, together := errgroup.WithContext(ctx)
	for _, waiter := range waiters {
		group.Go(func() error {
			done := progress.Step()
			if err := waiter.containerd(together); err != nil {
				return err
			}
			loaded, err := loadOnce(together, waiter.place, waiter.running, archives)
			if loaded > 0 {
				done("loaded %d images into %s", loaded, waiter.place.Name)
			}
			return err
		})
	}
	group.Go(func() error {
		done := progress.Step()
		if err := control.api(together); err != nil {
			return err
		}
		done("API server ready at %s", plan.Server())
		done = progress.Step()
		if err := control.addons(together, plan); err != nil {
			return err
		}
		done("applied DNS, storage class and metrics API")
		for _, waiter := range waiters {
			done = progress.Step()
			if err := waiter.node(together); err != nil {
				return err
			}
			done("node %s ready", waiter.place.Name)
		}
		if fakes == 0 {
			return nil
		}
		done = progress.Step()
		if err := control.fakeNodes(together, fakes); err != nil {
			return err
		}
		done("%d fake nodes ready", fakes)
		return nil
	})
	if err := group.Wait(); err != nil {
		return err
	}
	done := progress.Step()
	if err := control.dns(ctx, plan); err != nil {
		return err
	}
	done("DNS answers at %s", plan.DNS())
	done = progress.Step()
	if err := control.metrics(ctx); err != nil {
		return err
	}
	done("metrics API ready")
	return nil
}

// choosePlan gives a cluster its addresses, once and for all, and refuses those that the host uses.
func choosePlan(options UpOptions, nodes, fakes int) (record, error) {
	// The lock is shared by all clusters of the host that use this state folder.
	held, err := lock.Acquire(context.Background(), filepath.Join(string(options.State), "locks", ".indices.lock"), "index")
	if err != nil {
		return record{}, err
	}
	defer held.Release()
	known, found, err := loadRecord(options.Cluster)
	if err != nil {
		return record{}, err
	}
	taken, err := indices(options.State, options.Cluster.Name)
	if err != nil {
		return record{}, err
	}
	links, err := network.TakenIndices()
	if err != nil {
		return record{}, err
	}
	for index, by := range links {
		if _, named := taken[index]; !named && !(found && index == known.Index) {
			taken[index] = by
		}
	}
	index, err := chooseIndex(known.Index, options.Index, taken)
	if err != nil {
		return record{}, err
	}
	plan, err := address.ForIndex(index)
	if err != nil {
		return record{}, err
	}
	routes, err := network.HostRoutes()
	if err != nil {
		return record{}, err
	}
	if err := plan.Overlap(routes); err != nil {
		return record{}, err
	}
	chosen := record{Index: index, Nodes: nodes, FakeNodes: fakes}
	return chosen, writeJSON(options.Cluster.Record(), chosen)
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
