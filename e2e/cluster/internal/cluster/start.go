package cluster

import (
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"valerix.io/cluster/internal/address"
	"valerix.io/cluster/internal/cgroup"
	"valerix.io/cluster/internal/config"
	"valerix.io/cluster/internal/layout"
	"valerix.io/cluster/internal/network"
	"valerix.io/cluster/internal/node"
	"valerix.io/cluster/internal/pki"
	"valerix.io/cluster/internal/preflight"
	"valerix.io/cluster/internal/process"
)

// leaveLimit is how long the remains of a killed node may take to disappear by themselves.
const leaveLimit = 15 * time.Second

// start starts a node that does not run, beside a node that does if there is one.
func start(
	state layout.StateDir, cluster layout.Cluster, place layout.Node, plan address.Plan, fakes int, beside process.Identity,
) (process.Identity, error) {
	configured := nodeConfig(plan, place, preflight.CNIFolder())
	configured.FakeNodes = fakes
	if !beside.Alive() && !network.WaitNoLink(plan.LinkName(), leaveLimit) {
		return process.Identity{}, fmt.Errorf("the host already has a network link %s, which is not this cluster's; "+
			"end the cluster that made it, or choose other addresses with `cluster up --index N`", plan.LinkName())
	}
	hierarchies, err := cgroup.Hierarchies()
	if err != nil {
		return process.Identity{}, err
	}
	if err := cgroup.Remove(hierarchies, configured.CgroupRoot(), leaveLimit); err != nil {
		return process.Identity{}, err
	}
	if err := prepare(cluster, configured); err != nil {
		return process.Identity{}, err
	}
	return spawn(state, cluster, place, configured, hierarchies, beside)
}

// prepare writes what the node reads.
func prepare(cluster layout.Cluster, configured config.Node) error {
	if err := os.MkdirAll(cluster.Dir(), 0o700); err != nil {
		return fmt.Errorf("failed to make the cluster's folder: %w", err)
	}
	if err := pki.Issue(cluster.PKI(), configured.Certificates(), time.Now()); err != nil {
		return err
	}
	files, err := configured.Files()
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := writeFile(filepath.Join(cluster.Config(), file.Name), file.Content); err != nil {
			return err
		}
	}
	if configured.Number > 1 {
		return nil // The rest is the cluster's, and the first node has brought it.
	}
	access := config.Access{Context: cluster.Context(), Server: configured.Plan.Server(), Embedded: true}
	for path, into := range map[string]*string{
		pki.ClusterAuthority + ".crt":    &access.Authority,
		config.AdminCertificate + ".crt": &access.Cert,
		config.AdminCertificate + ".key": &access.Key,
	} {
		content, err := os.ReadFile(filepath.Join(cluster.PKI(), path))
		if err != nil {
			return fmt.Errorf("failed to write the kubeconfig: %w", err)
		}
		*into = base64.StdEncoding.EncodeToString(content)
	}
	kubeconfig, err := config.Kubeconfig(access)
	if err != nil {
		return err
	}
	if err := writeFile(cluster.Kubeconfig(), kubeconfig); err != nil {
		return err
	}
	// The cluster goes on running when the original is rebuilt or removed, and its DNS pod mounts it.
	return copyProgram("/proc/self/exe", cluster.Binary())
}

// copyProgram keeps a file with the cluster, and takes the place of one that may be running.
func copyProgram(original, target string) error {
	err := os.MkdirAll(filepath.Dir(target), 0o755)
	if err != nil {
		return fmt.Errorf("failed to copy %s: %w", original, err)
	}
	source, err := os.Open(original)
	if err != nil {
		return fmt.Errorf("failed to copy %s: %w", original, err)
	}
	defer source.Close()
	copied, err := os.OpenFile(target+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err == nil {
		_, err = io.Copy(copied, source)
		if closed := copied.Close(); err == nil {
			err = closed
		}
	}
	if err == nil {
		err = os.Rename(target+".new", target)
	}
	if err != nil {
		return fmt.Errorf("failed to copy %s: %w", original, err)
	}
	return nil
}

// spawn starts the node's first process, connects it and lets it go on.
func spawn(
	state layout.StateDir, cluster layout.Cluster, place layout.Node, configured config.Node, hierarchies []cgroup.Hierarchy,
	beside process.Identity,
) (identity process.Identity, err error) {
	if err := os.MkdirAll(place.Logs(), 0o700); err != nil {
		return identity, fmt.Errorf("failed to make the folder of logs: %w", err)
	}
	_ = os.Remove(place.Children()) // It told of a life that is over.
	log, err := os.OpenFile(filepath.Join(place.Logs(), "node.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return identity, fmt.Errorf("failed to open the node's log: %w", err)
	}
	defer log.Close()
	first := !beside.Alive()
	fabric, err := fabricBeside(beside, first)
	if err != nil {
		return identity, err
	}
	defer fabric.Close()
	waiting, release, err := os.Pipe()
	if err != nil {
		return identity, fmt.Errorf("failed to start the node: %w", err)
	}
	defer release.Close()

	command := node.Command(cluster.Binary(), node.Spec{
		State: string(state), Cluster: cluster.Name, Number: place.Number, Index: configured.Plan.Index, CNIBin: configured.CNIBin,
		FakeNodes: configured.FakeNodes,
	}, log, fabric, waiting)
	err = command.Start()
	waiting.Close()
	if err != nil {
		return identity, fmt.Errorf("failed to start the node: %w", err)
	}
	pid := command.Process.Pid
	go command.Wait() // Or it would stay a zombie for as long as `up` runs.
	defer func() {
		if err != nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}()
	if first {
		if err := network.ConnectHost(configured.Plan, fabric); err != nil {
			return identity, err
		}
	}
	if err := network.ConnectNode(configured.Plan, fabric, place.Number, pid); err != nil {
		return identity, err
	}
	if err := cgroup.Create(hierarchies, configured.CgroupRoot(), pid); err != nil {
		return identity, err
	}
	if identity, err = process.Of(pid); err != nil {
		return identity, fmt.Errorf("the node ended at once; see %s: %w", log.Name(), err)
	}
	if err := writeJSON(place.Process(), identity); err != nil {
		return identity, err
	}
	if _, err := release.Write([]byte{1}); err != nil {
		return identity, fmt.Errorf("the node ended at once; see %s: %w", log.Name(), err)
	}
	return identity, nil
}

// fabricBeside returns what joins the nodes: a new one for the first node of a cluster, that of its neighbour for others.
func fabricBeside(neighbour process.Identity, first bool) (*os.File, error) {
	if first {
		return network.NewNamespace()
	}
	return network.FabricOf(neighbour.PID, node.FabricDescriptor)
}
