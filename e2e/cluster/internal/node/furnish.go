package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"valerix.io/cluster/internal/layout"
)

// furnish turns the host's view of the file system into the node's: its own /proc, /run, /tmp and /var, everything
// else as on the host. What the components write goes into the cluster's folder or nowhere.
func furnish(cluster layout.Cluster, place layout.Node) error {
	// Both are opened before anything is mounted over the paths that lead to them.
	clusterDir, err := openPath(cluster.Dir())
	if err != nil {
		return err
	}
	defer unix.Close(clusterDir)
	if err := os.MkdirAll(place.Var(), 0o755); err != nil {
		return fmt.Errorf("failed to make the node's /var: %w", err)
	}
	varDir, err := openPath(place.Var())
	if err != nil {
		return err
	}
	defer unix.Close(varDir)

	for _, step := range []func() error{
		isolate,
		func() error { return mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "") },
		func() error { return mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755") },
		func() error { return bindDescriptor(clusterDir, layout.Inside) },
		func() error { return bindDescriptor(varDir, "/var") },
		furnishVar,
		func() error { return mount("/var/tmp", "/tmp", "", unix.MS_BIND, "") },
		shieldSysctls,
		forgetPodAddresses,
		setSysctls,
		share,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// isolate keeps the node's mounts from the host, but lets the host's unmounts through, or the node would keep busy
// whatever was mounted when it started.
func isolate() error { return mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "") }

// share lets mounts pass between the kubelet and containers that ask for it, within the node.
func share() error { return mount("", "/", "", unix.MS_REC|unix.MS_SHARED, "") }

func furnishVar() error {
	for _, dir := range []string{"cache", "lib", "log", "spool"} {
		if err := os.MkdirAll(filepath.Join("/var", dir), 0o755); err != nil {
			return fmt.Errorf("failed to furnish the node's /var: %w", err)
		}
	}
	if err := os.MkdirAll("/var/tmp", 0o777); err != nil {
		return fmt.Errorf("failed to furnish the node's /var: %w", err)
	}
	if err := os.Chmod("/var/tmp", 0o777|os.ModeSticky); err != nil {
		return fmt.Errorf("failed to furnish the node's /var: %w", err)
	}
	for link, target := range map[string]string{"/var/run": "/run", "/var/lock": "/run/lock"} {
		if err := os.Symlink(target, link); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("failed to furnish the node's /var: %w", err)
		}
	}
	return nil
}

// forgetPodAddresses empties the list of addresses in use. No pod outlives its node's first process, but the list
// does, and addresses that nobody gives back would run out.
func forgetPodAddresses() error {
	if err := os.RemoveAll("/var/lib/cni/networks"); err != nil {
		return fmt.Errorf("failed to forget the addresses of past pods: %w", err)
	}
	return nil
}

func openPath(path string) (int, error) {
	descriptor, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("failed to open %s: %w", path, err)
	}
	return descriptor, nil
}

func bindDescriptor(descriptor int, target string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("failed to make the mount point %s: %w", target, err)
	}
	return mount(fmt.Sprintf("/proc/self/fd/%d", descriptor), target, "", unix.MS_BIND, "")
}

func mount(source, target, kind string, flags uintptr, data string) error {
	if err := unix.Mount(source, target, kind, flags, data); err != nil {
		return fmt.Errorf("failed to mount %s on %s: %w", source, target, err)
	}
	return nil
}
