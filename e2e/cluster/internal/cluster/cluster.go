// Package cluster is the life of a cluster: up, down, status, and the images of its nodes.
//
// A cluster is a folder (see layout) and, while it runs, one process for each node. Everything else hangs on those
// two, so every command first looks at them and then does what is missing: none assumes how the last one ended.
package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"valerix.io/cluster/internal/address"
	"valerix.io/cluster/internal/config"
	"valerix.io/cluster/internal/layout"
	"valerix.io/cluster/internal/process"
)

// record is what a cluster must remember: its certificates and its stored objects hold addresses.
type record struct {
	Index int `json:"index"`
	Nodes int `json:"nodes"`
	// FakeNodes are beside those; a cluster of an older program has none.
	FakeNodes int `json:"fakeNodes,omitempty"`
}

// loadRecord returns the record of a cluster, or false if it has none.
func loadRecord(cluster layout.Cluster) (record, bool, error) {
	var loaded record
	found, err := readJSON(cluster.Record(), &loaded)
	return loaded, found, err
}

// nodeProcess returns the first process of a node, or the zero identity, which is not alive, if it never had one.
func nodeProcess(node layout.Node) (process.Identity, error) {
	var identity process.Identity
	_, err := readJSON(node.Process(), &identity)
	return identity, err
}

// nodes lists the nodes that a cluster has a folder for.
func nodes(cluster layout.Cluster) ([]layout.Node, error) {
	entries, err := os.ReadDir(cluster.Nodes())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("failed to list the nodes: %w", err)
	}
	var found []layout.Node
	for _, entry := range entries {
		var number int
		if n, _ := fmt.Sscanf(entry.Name(), cluster.Name+"-node-%d", &number); n == 1 {
			found = append(found, cluster.Node(number))
		}
	}
	return found, nil
}

// indices lists which cluster has which index, other clusters of the same state folder only.
func indices(state layout.StateDir, except string) (map[int]string, error) {
	entries, err := os.ReadDir(state.Clusters())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("failed to list the clusters: %w", err)
	}
	taken := map[int]string{}
	for _, entry := range entries {
		other, err := state.Cluster(entry.Name())
		if err != nil || other.Name == except {
			continue
		}
		if known, found, err := loadRecord(other); err == nil && found {
			taken[known.Index] = other.Name
		}
	}
	return taken, nil
}

func nodeConfig(plan address.Plan, node layout.Node, cniBin string) config.Node {
	return config.Node{Plan: plan, Name: node.Name, Number: node.Number, CNIBin: cniBin}
}

// readJSON says whether the file is there.
func readJSON(path string, into any) (bool, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(content, into)
	}
	if err != nil {
		return false, fmt.Errorf("failed to read %s: %w", path, err)
	}
	return true, nil
}

// writeJSON replaces the file as a whole, so that a reader never sees half of it.
func writeJSON(path string, value any) error {
	content, err := json.Marshal(value)
	if err == nil {
		err = writeFile(path, append(content, '\n'))
	}
	return err
}

// writeFile writes a private file and the folders above it.
func writeFile(path string, content []byte) error {
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = os.WriteFile(path+".new", content, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("failed to write %s: %w", path, err)
	}
	return nil
}
