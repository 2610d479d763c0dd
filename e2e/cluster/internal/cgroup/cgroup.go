// Package cgroup makes and removes the control groups of a node: one folder of the same name in every hierarchy that
// the host has mounted, which is one with version 2 and one for each controller with version 1.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// System is the group, below the node's own, of the processes that are not pods.
const System = "system"

// Hierarchy is a mounted tree of control groups.
type Hierarchy struct {
	Path        string
	Controllers []string // Version 1 only.
	Unified     bool
}

// Hierarchies lists the host's trees.
func Hierarchies() ([]Hierarchy, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("failed to list the control group hierarchies: %w", err)
	}
	defer file.Close()
	return parse(file)
}

// parse reads lines such as
//
//	36 32 0:33 / /sys/fs/cgroup/cpu rw,relatime shared:16 - cgroup cgroup rw,cpu
func parse(mountinfo io.Reader) (found []Hierarchy, err error) {
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		mount, filesystem, _ := strings.Cut(lines.Text(), " - ")
		mounted, kind := strings.Fields(mount), strings.Fields(filesystem)
		if len(mounted) < 5 || len(kind) < 3 || !strings.HasPrefix(kind[0], "cgroup") {
			continue
		}
		hierarchy := Hierarchy{Path: mounted[4], Unified: kind[0] == "cgroup2"}
		if !hierarchy.Unified {
			for option := range strings.SplitSeq(kind[2], ",") {
				if option != "rw" && option != "ro" && option != "xattr" {
					hierarchy.Controllers = append(hierarchy.Controllers, option)
				}
			}
		}
		found = append(found, hierarchy)
	}
	return found, lines.Err()
}

// Create makes the group of a node and puts its first process into a part of it.
func Create(hierarchies []Hierarchy, node string, pid int) error {
	for _, hierarchy := range hierarchies {
		path := filepath.Join(hierarchy.Path, node)
		for _, group := range []string{path, filepath.Join(path, System)} {
			if err := os.MkdirAll(group, 0o755); err != nil {
				return fmt.Errorf("failed to make the control group %s: %w", group, err)
			}
			if slices.Contains(hierarchy.Controllers, "cpuset") {
				if err := inheritCPUs(group); err != nil {
					return err
				}
			}
		}
		procs := filepath.Join(path, System, "cgroup.procs")
		if err := os.WriteFile(procs, fmt.Appendf(nil, "%d", pid), 0); err != nil {
			return fmt.Errorf("failed to move the node's first process into %s: %w", procs, err)
		}
	}
	return nil
}

// inheritCPUs copies what version 1 leaves empty in a new group, and a process cannot enter an empty one.
func inheritCPUs(group string) error {
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		content, err := os.ReadFile(filepath.Join(filepath.Dir(group), name))
		if err == nil {
			err = os.WriteFile(filepath.Join(group, name), content, 0)
		}
		if err != nil {
			return fmt.Errorf("failed to give the control group %s its processors: %w", group, err)
		}
	}
	return nil
}

// Exists says whether any hierarchy has a group of that name.
func Exists(hierarchies []Hierarchy, node string) bool {
	return slices.ContainsFunc(hierarchies, func(h Hierarchy) bool {
		_, err := os.Stat(filepath.Join(h.Path, node))
		return err == nil
	})
}

// Remove removes the groups of a node whose processes have been killed. The kernel refuses until the last of them
// is really gone, so it is tried for a while.
func Remove(hierarchies []Hierarchy, node string, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		var failed error
		for _, hierarchy := range hierarchies {
			if err := removeTree(filepath.Join(hierarchy.Path, node)); err != nil {
				failed = err
			}
		}
		if failed == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("failed to remove the control groups of %s: %w", node, failed)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// removeTree removes folders from the leaves up. The files in them are the kernel's and go with their folder.
func removeTree(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(path, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
