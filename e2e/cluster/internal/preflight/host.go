package preflight

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"valerix.io/cluster/internal/cgroup"
)

var (
	cniFolders = []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}
	cniPlugins = []string{"bridge", "host-local", "loopback", "portmap"}
)

// Look gathers the facts about this host.
func Look() (Facts, error) {
	facts := Facts{
		Root:              os.Geteuid() == 0,
		Programs:          map[string]bool{},
		CNIPlugins:        CNIFolder() != "",
		Namespaces:        map[string]bool{},
		CgroupControllers: map[string]bool{},
		BridgeFilter:      exists("/proc/sys/net/bridge/bridge-nf-call-iptables"),
	}
	for _, needed := range nodePrograms {
		facts.Programs[needed.name] = installed(needed.name)
	}
	for name := range imagePackages {
		facts.Programs[name] = installed(name)
	}
	for _, name := range neededNamespaces {
		facts.Namespaces[name] = exists("/proc/self/ns/" + name)
	}
	filesystems, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return Facts{}, fmt.Errorf("failed to list the kernel's file systems: %w", err)
	}
	facts.Filesystems = parseFilesystems(string(filesystems))
	hierarchies, err := cgroup.Hierarchies()
	if err != nil {
		return Facts{}, err
	}
	for _, hierarchy := range hierarchies {
		controllers := hierarchy.Controllers
		if hierarchy.Unified {
			content, _ := os.ReadFile(filepath.Join(hierarchy.Path, "cgroup.controllers"))
			controllers = strings.Fields(string(content))
		}
		for _, controller := range controllers {
			facts.CgroupControllers[controller] = true
		}
	}
	if facts.Root { // Nobody else may try.
		facts.Links = inTrialNetwork(tryLinks)
		facts.PacketFilter = inTrialNetwork(tryPacketFilter)
	}
	return facts, nil
}

// CNIFolder is the folder of the host's CNI plugins, or empty if it has none.
func CNIFolder() string {
	for _, folder := range cniFolders {
		if !slices.ContainsFunc(cniPlugins, func(plugin string) bool { return !exists(filepath.Join(folder, plugin)) }) {
			return folder
		}
	}
	return ""
}

// inTrialNetwork works in a network namespace that ends with the trial.
func inTrialNetwork(try func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // Never unlocked: the thread, and with it the namespace, ends with this goroutine.
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- try()
	}()
	return <-done
}

func tryLinks() error {
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a"}, PeerName: "b"}); err != nil {
		return fmt.Errorf("veth: %w", err)
	}
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "c"}}); err != nil {
		return fmt.Errorf("bridge: %w", err)
	}
	return nil
}

// trialRules use every match and target that kube-proxy and the port mapping do.
const trialRules = `*nat
:TRIAL - [0:0]
-A TRIAL -m comment --comment "x" -m statistic --mode random --probability 0.5 -p tcp -j DNAT --to-destination 192.0.2.1:80
-A TRIAL -m addrtype --dst-type LOCAL -j MARK --or-mark 0x4000
-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully
COMMIT
*filter
:TRIAL - [0:0]
-A TRIAL -m conntrack --ctstate INVALID -j DROP
-A TRIAL -j REJECT
COMMIT
`

func tryPacketFilter() error {
	if !installed("iptables-restore") {
		return nil // Reported as a missing program.
	}
	command := exec.Command("iptables-restore")
	command.Stdin = strings.NewReader(trialRules)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	if err := command.Run(); err != nil {
		return fmt.Errorf("iptables-restore: %w: %s", err, strings.TrimSpace(output.String()))
	}
	return nil
}

// Install does what the cure says and tells first what that is.
func Install(ctx context.Context, cure Cure, tell io.Writer) error {
	for _, module := range cure.Modules {
		if err := execute(ctx, tell, "modprobe", module); err != nil {
			return err
		}
	}
	if len(cure.Packages) == 0 {
		return nil
	}
	if !installed("apt-get") {
		return errors.New("there is no apt-get on this host; install by other means: " + strings.Join(cure.Packages, ", "))
	}
	fmt.Fprintf(tell, "installing the packages %s\n", strings.Join(cure.Packages, ", "))
	if err := execute(ctx, tell, "apt-get", "update", "--quiet=2"); err != nil {
		return err
	}
	return execute(ctx, tell, "apt-get", append([]string{
		"install", "--yes", "--quiet=2", "--no-install-recommends"}, cure.Packages...)...)
}

func execute(ctx context.Context, tell io.Writer, name string, arguments ...string) error {
	fmt.Fprintf(tell, "running %s %s\n", name, strings.Join(arguments, " "))
	command := exec.CommandContext(ctx, name, arguments...)
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	command.Stdout, command.Stderr = tell, tell
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s %s failed: %w", name, arguments[0], err)
	}
	return nil
}

func parseFilesystems(content string) map[string]bool {
	found := map[string]bool{}
	for line := range strings.Lines(content) {
		if fields := strings.Fields(line); len(fields) > 0 {
			found[fields[len(fields)-1]] = true
		}
	}
	return found
}

func installed(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
