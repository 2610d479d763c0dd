// Package layout knows where everything lies. It is pure: it names paths and creates none.
//
//	STATE/clusters/NAME/           one cluster, mode 0700; inside a node the same folder is /run/valerix
//	  cluster.json                 its index
//	  kubeconfig                   of the administrator, mode 0600
//	  audit.log                    every request that the API server answered, one JSON object a line
//	  pki/ config/ etcd/
//	  bin/                         the cluster's own binary; kwok and its stages.yaml if it has fake nodes
//	  nodes/NODE/                  node.json (the process), children.json (what it supervises), log/, var/ (its /var)
//	STATE/locks/NAME.lock          held by a running `up` or `down`
//	CACHE/images/                  image archives, named by their content
package layout

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// Inside is where a node finds its cluster's folder: a fixed and short path, so that no file of the cluster
// depends on where the host keeps it, and no socket path grows too long.
const Inside = "/run/valerix"

// Defaults that a person or the environment overrides.
const (
	DefaultState = "/var/lib/valerix"
	DefaultName  = "demo"
)

// State is the folder of all clusters: the flag if given, else VALERIX_STATE, else DefaultState.
func State(flag string) (StateDir, error) {
	path, err := filepath.Abs(cmp.Or(flag, os.Getenv("VALERIX_STATE"), DefaultState))
	return StateDir(path), err
}

// StateDir is the folder of all clusters.
type StateDir string

// Cluster is the folder of one cluster.
type Cluster struct {
	Name  string
	state StateDir
}

var validName = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$`)

// Cluster returns the folder of the cluster with that name.
func (s StateDir) Cluster(name string) (Cluster, error) {
	if !validName.MatchString(name) {
		return Cluster{}, fmt.Errorf("cluster name %q must be 1 to 20 of a-z, 0-9 and -, begin with a letter and not end with -", name)
	}
	return Cluster{Name: name, state: s}, nil
}

// Clusters is the folder that holds one folder for each cluster.
func (s StateDir) Clusters() string { return filepath.Join(string(s), "clusters") }

func (c Cluster) Dir() string        { return filepath.Join(c.state.Clusters(), c.Name) }
func (c Cluster) Lock() string       { return filepath.Join(string(c.state), "locks", c.Name+".lock") }
func (c Cluster) Record() string     { return filepath.Join(c.Dir(), "cluster.json") }
func (c Cluster) Kubeconfig() string { return filepath.Join(c.Dir(), "kubeconfig") }
func (c Cluster) Audit() string      { return filepath.Join(c.Dir(), "audit.log") }
func (c Cluster) PKI() string        { return filepath.Join(c.Dir(), "pki") }
func (c Cluster) Config() string     { return filepath.Join(c.Dir(), "config") }
func (c Cluster) Binary() string     { return filepath.Join(c.Dir(), "bin", "cluster") }
func (c Cluster) Kwok() string       { return filepath.Join(c.Dir(), "bin", "kwok") }
func (c Cluster) Stages() string     { return filepath.Join(c.Dir(), "bin", "stages.yaml") }
func (c Cluster) Nodes() string      { return filepath.Join(c.Dir(), "nodes") }

// Context is the name of the cluster's kubeconfig context.
func (c Cluster) Context() string { return "valerix-" + c.Name }

// Node is the folder of node n; the first node is 1.
func (c Cluster) Node(n int) Node {
	name := fmt.Sprintf("%s-node-%d", c.Name, n)
	return Node{Name: name, Number: n, dir: filepath.Join(c.Nodes(), name)}
}

// Node is the folder of one node.
type Node struct {
	Name   string
	Number int
	dir    string
}

func (n Node) Dir() string      { return n.dir }
func (n Node) Process() string  { return filepath.Join(n.dir, "node.json") }
func (n Node) Children() string { return filepath.Join(n.dir, "children.json") }
func (n Node) Logs() string     { return filepath.Join(n.dir, "log") }
func (n Node) Var() string      { return filepath.Join(n.dir, "var") }

// Cache is the folder for what is expensive to make and the same for every cluster.
func Cache() (string, error) {
	if dir := os.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "valerix"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("neither XDG_CACHE_HOME nor HOME is set, so there is no place for the image cache")
	}
	return filepath.Join(home, ".cache", "valerix"), nil
}
