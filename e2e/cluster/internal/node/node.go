// Package node is the first process of a node. It is started in new pid, mount, network, ipc and uts namespaces,
// furnishes them, and then supervises the node's components until it is told to stop or is killed. When it dies, the
// kernel kills every process of the node and drops its mounts and links.
package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"valerix.io/cluster/internal/address"
	"valerix.io/cluster/internal/config"
	"valerix.io/cluster/internal/layout"
	"valerix.io/cluster/internal/supervise"
)

// Spec is what a node's first process is told by whoever starts it.
type Spec struct {
	State   string
	Cluster string
	Number  int
	Index   int
	CNIBin  string
	// FakeNodes is how many more nodes the cluster has whose kubelet is played.
	FakeNodes int
}

// Path is the search path of everything inside a node, whatever the caller's was.
const Path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Command returns the not yet started first process of a node: the given binary, once more, in new namespaces.
//
// It inherits the fabric's namespace, which it keeps alive, and the reading end of a pipe on which it waits for one
// byte. A starter that dies half way closes the pipe, and the node ends without a trace.
func Command(binary string, spec Spec, log, fabric, start *os.File) *exec.Cmd {
	command := exec.Command(binary, "node",
		"--state", spec.State, "--cluster", spec.Cluster, "--cni-bin", spec.CNIBin,
		"--number", fmt.Sprint(spec.Number), "--index", fmt.Sprint(spec.Index), "--fake-nodes", fmt.Sprint(spec.FakeNodes))
	command.Env = []string{"PATH=" + Path, "HOME=/root"}
	command.Stdout, command.Stderr = log, log
	command.ExtraFiles = []*os.File{fabric, start} // Descriptors 3 and 4.
	command.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET |
			syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
	}
	return command
}

const (
	// FabricDescriptor is under which the first process holds the fabric open.
	FabricDescriptor = 3
	startDescriptor  = 4
	// stopGrace is what each component is given to end when the host shuts down.
	stopGrace = 5 * time.Second
)

// Run is the first process.
func Run(spec Spec) error {
	if os.Getpid() != 1 {
		return errors.New("this command is the first process of a node and is started by `cluster up`")
	}
	syscall.CloseOnExec(FabricDescriptor)
	if err := awaitStart(); err != nil {
		return err
	}
	cluster, err := layout.StateDir(spec.State).Cluster(spec.Cluster)
	if err != nil {
		return err
	}
	plan, err := address.ForIndex(spec.Index)
	if err != nil {
		return err
	}
	place := cluster.Node(spec.Number)
	if err := syscall.Sethostname([]byte(place.Name)); err != nil {
		return fmt.Errorf("failed to name the node: %w", err)
	}
	if err := furnish(cluster, place); err != nil {
		return err
	}
	configured := config.Node{Plan: plan, Name: place.Name, Number: place.Number, CNIBin: spec.CNIBin, FakeNodes: spec.FakeNodes}
	children, err := supervised(configured)
	if err != nil {
		return err
	}
	inside := layout.Inside + "/nodes/" + place.Name
	supervisor := &supervise.Supervisor{
		Logs: inside + "/log", StatusFile: inside + "/children.json", Backoff: supervise.DefaultBackoff,
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	supervisor.Run(ctx, children, stopGrace)
	return nil
}

func awaitStart() error {
	start := os.NewFile(startDescriptor, "start")
	defer start.Close()
	if n, err := start.Read(make([]byte, 1)); n != 1 {
		return fmt.Errorf("the starter ended before the node was connected: %w", err)
	}
	return nil
}

// supervised turns components into children: programs are found once, needs become gates.
func supervised(n config.Node) ([]supervise.Child, error) {
	gates, err := newGates(n.Plan)
	if err != nil {
		return nil, err
	}
	var children []supervise.Child
	for _, component := range n.Components() {
		program, err := exec.LookPath(component.Command[0])
		if err != nil {
			return nil, fmt.Errorf("failed to find the program of %s: %w", component.Name, err)
		}
		children = append(children, supervise.Child{
			Name:    component.Name,
			Command: append([]string{program}, component.Command[1:]...),
			Gate:    gates.of(component.Need),
		})
	}
	return children, nil
}
