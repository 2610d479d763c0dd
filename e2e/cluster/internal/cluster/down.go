package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"valerix.io/cluster/internal/address"
	"valerix.io/cluster/internal/cgroup"
	"valerix.io/cluster/internal/layout"
	"valerix.io/cluster/internal/lock"
	"valerix.io/cluster/internal/mounts"
	"valerix.io/cluster/internal/network"
	"valerix.io/cluster/internal/process"
)

// remains is what there is of a cluster.
type remains struct {
	folder  bool
	nodes   []nodeRemains
	link    string   // Of the host; empty if the cluster never had addresses.
	mounted []string // Below its folder, as the host sees it; a node's own mounts are not.
}

type nodeRemains struct {
	process process.Identity
	alive   bool
	cgroup  string
}

// ending is what to do, in this order.
type ending struct {
	kill    []process.Identity
	link    string
	cgroups []string
	folder  bool
}

// decide says how to end a cluster; it is pure. Nothing is left to do where nothing is left.
func decide(found remains) (ending, error) {
	if !found.folder {
		return ending{}, nil
	}
	if len(found.mounted) > 0 {
		return ending{}, fmt.Errorf("something is mounted inside the cluster's folder and would lose its files: %s; "+
			"unmount it and try again", strings.Join(found.mounted, ", "))
	}
	plan := ending{link: found.link, folder: true}
	for _, node := range found.nodes {
		if node.alive {
			plan.kill = append(plan.kill, node.process)
		}
		if node.cgroup != "" {
			plan.cgroups = append(plan.cgroups, node.cgroup)
		}
	}
	return plan, nil
}

// Down ends a cluster and removes everything of it from the host. For a cluster that is not there it does nothing,
// and says nothing.
func Down(ctx context.Context, cluster layout.Cluster, out io.Writer) error {
	if !exists(cluster.Dir()) && !exists(cluster.Lock()) {
		return nil
	}
	held, err := interrupt(ctx, cluster)
	if err != nil {
		return err
	}
	defer held.Release()
	found, err := look(cluster)
	if err != nil {
		return err
	}
	plan, err := decide(found)
	if err != nil || !plan.folder {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("only root can end a cluster; run the command as root, for example with sudo")
	}
	progress := &Progress{Out: out, Cluster: cluster.Name}
	progress.Begin()
	if err := end(cluster, plan, progress); err != nil {
		return err
	}
	progress.End("down")
	return nil
}

// interrupt takes the cluster's lock, from a running `up` by asking it to stop.
func interrupt(ctx context.Context, cluster layout.Cluster) (*lock.Lock, error) {
	for {
		held, err := lock.Try(cluster.Lock(), "down")
		if !errors.Is(err, lock.ErrHeld) {
			return held, err
		}
		if holder, err := lock.HolderOf(cluster.Lock()); err == nil && holder.Purpose == "up" {
			if err := holder.Process.Signal(syscall.SIGTERM); err != nil {
				return nil, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func look(cluster layout.Cluster) (remains, error) {
	found := remains{folder: exists(cluster.Dir())}
	if !found.folder {
		return found, nil
	}
	var plan address.Plan
	known, recorded, err := loadRecord(cluster)
	if err != nil {
		return found, err
	}
	if recorded {
		if plan, err = address.ForIndex(known.Index); err != nil {
			return found, err
		}
		found.link = plan.LinkName()
	}
	places, err := nodes(cluster)
	if err != nil {
		return found, err
	}
	for _, place := range places {
		identity, err := nodeProcess(place)
		if err != nil {
			return found, err
		}
		left := nodeRemains{process: identity, alive: identity.Alive()}
		if recorded {
			left.cgroup = nodeConfig(plan, place, "").CgroupRoot()
		}
		found.nodes = append(found.nodes, left)
	}
	found.mounted, err = mounts.Below(cluster.Dir())
	return found, err
}

func end(cluster layout.Cluster, plan ending, progress *Progress) error {
	done := progress.Step()
	for _, node := range plan.kill {
		if err := node.Signal(syscall.SIGKILL); err != nil {
			return err
		}
	}
	for _, node := range plan.kill {
		if !node.WaitGone(leaveLimit) {
			return fmt.Errorf("process %d, the first of a node, does not die; one of its processes hangs in the kernel "+
				"(`ps -eo pid,stat,wchan:30,cmd` shows state D)", node.PID)
		}
	}
	// The kernel takes the link away with the last node. A link that stays is not removed: another state folder's
	// cluster may have been given the index since.
	if plan.link != "" && len(plan.kill) > 0 && !network.WaitNoLink(plan.link, leaveLimit) {
		return fmt.Errorf("the host's link %s outlived its cluster; remove it with `ip link del %s` and try again", plan.link, plan.link)
	}
	if len(plan.kill) > 0 {
		done("ended %d node(s)", len(plan.kill))
	}
	hierarchies, err := cgroup.Hierarchies()
	if err != nil {
		return err
	}
	done = progress.Step()
	for _, name := range plan.cgroups {
		if err := cgroup.Remove(hierarchies, name, leaveLimit); err != nil {
			return err
		}
	}
	if err := mounts.RemoveAll(cluster.Dir()); err != nil {
		return fmt.Errorf("failed to remove the cluster's folder: %w", err)
	}
	done("removed its control groups and files")
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
