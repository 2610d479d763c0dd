// Package config renders everything that the components of a cluster are told: files, command lines and the list of
// certificates. It is pure: names and addresses go in, text comes out.
//
// Paths are those that a node sees (layout.Inside), so no rendered file depends on where the host keeps the cluster.
package config

import (
	"bytes"
	"embed"
	"encoding/base64"
	"fmt"
	"path"
	"text/template"

	"valerix.io/cluster/internal/address"
	"valerix.io/cluster/internal/layout"
	"valerix.io/cluster/internal/pki"
)

// Images that every cluster needs.
const (
	BaseImage  = "docker.io/library/debian:bookworm-slim"
	PauseImage = "registry.k8s.io/pause:3.10"
)

// Provisioner is the name that storage classes give to reach the cluster's own volumes.
const Provisioner = "valerix.io/local"

// Node is what a node's configuration depends on.
type Node struct {
	Plan   address.Plan
	Name   string // Of the node.
	Number int    // From 1; node 1 carries the control plane.
	CNIBin string // Folder of the host's CNI plugins.
	// FakeNodes is how many nodes of the cluster are kwok's, which runs on node 1.
	FakeNodes int
}

// Paths inside a node.
const (
	// ContainerdSocket is the usual path, but in a /run that is the node's own.
	ContainerdSocket = "/run/containerd/containerd.sock"

	pkiDir    = layout.Inside + "/pki"
	configDir = layout.Inside + "/config"
	binary    = layout.Inside + "/bin/cluster"
	kwok      = layout.Inside + "/bin/kwok"
	stages    = layout.Inside + "/bin/stages.yaml"

	// Volumes is the folder of the local volumes. It lies in the node's own /var.
	Volumes = "/var/lib/valerix/volumes"
)

// CgroupRoot is the cgroup under which all pods of the node live. Two kubelets on one host would otherwise take
// each other's pods for strays and kill them.
func (n Node) CgroupRoot() string { return fmt.Sprintf("%s-%s", n.Plan.LinkName(), n.Name) }

// Zone is the node's zone: every node has one of its own, so that losing a node is losing a zone.
func (n Node) Zone() string { return fmt.Sprintf("zone-%c", 'a'+n.Number-1) }

func (n Node) dir() string { return configDir + "/" + n.Name }

//go:embed files
var files embed.FS

var templates = template.Must(template.ParseFS(files, "files/*"))

// File is a file to write below the cluster's config folder.
type File struct {
	Name    string
	Content []byte
}

// Files renders the files of a node, those of the control plane among them if it carries that.
func (n Node) Files() ([]File, error) {
	values := map[string]any{
		"Node": n, "PKI": pkiDir, "Dir": n.dir(), "Socket": ContainerdSocket,
		"Address": n.Plan.Node(n.Number), "NodePods": n.Plan.NodePods(n.Number),
		"PauseImage": PauseImage, "DNS": n.Plan.DNS(),
	}
	rendered := []File{{Name: path.Join(n.Name, "resolv.conf")}} // Empty: nothing outside the cluster is resolved.
	for _, name := range []string{"containerd.toml", "kubelet.yaml", "cni/10-bridge.conflist"} {
		content, err := render(path.Base(name), values)
		if err != nil {
			return nil, err
		}
		rendered = append(rendered, File{Name: path.Join(n.Name, name), Content: content})
	}
	clients := []string{n.kubeletCertificate()}
	if n.Number == 1 {
		clients = append(clients, proxyCertificate, VolumesCertificate, PoliciesCertificate, metricsCertificate,
			controllerManagerCertificate, schedulerCertificate)
		content, err := render("audit-policy.yaml", values)
		if err != nil {
			return nil, err
		}
		rendered = append(rendered, File{Name: "audit-policy.yaml", Content: content})
	}
	if n.playsKubelets() {
		clients = append(clients, kwokCertificate)
	}
	for _, client := range clients {
		content, err := Kubeconfig(Access{
			Context: client, Server: n.Plan.Server(),
			Authority: pkiDir + "/" + pki.ClusterAuthority + ".crt",
			Cert:      pkiDir + "/" + client + ".crt",
			Key:       pkiDir + "/" + client + ".key",
		})
		if err != nil {
			return nil, err
		}
		rendered = append(rendered, File{Name: client + ".kubeconfig", Content: content})
	}
	return rendered, nil
}

// MetricsPort is where node 1 serves the metrics API.
const MetricsPort = 4443

// Addons renders the objects that make a bare API server a cluster: DNS, the storage class, the metrics API and their
// rights. The authority, in PEM, is the cluster's.
func Addons(plan address.Plan, authority []byte) ([]byte, error) {
	return render("addons.yaml", map[string]any{
		"DNS": plan.DNS(), "BaseImage": BaseImage, "Binary": binary, "Provisioner": Provisioner,
		"VolumesUser": volumesUser, "PoliciesUser": policiesUser,
		"MetricsUser": metricsUser, "MetricsPort": MetricsPort, "Node1": plan.Node(1),
		"Authority": base64.StdEncoding.EncodeToString(authority),
	})
}

// FakeNodes renders so many nodes whose kubelet is played by kwok, and its rights. What is to run on one has to say so: it
// selects them by their label and tolerates their taint.
func FakeNodes(count int) ([]byte, error) {
	zones := make([]string, count)
	for i := range zones {
		zones[i] = Node{Number: 1 + i%address.MaxNodes}.Zone()
	}
	return render("fake-nodes.yaml", map[string]any{"User": kwokUser, "Zones": zones, "Mark": FakeMark})
}

// FakeMark is the key of the label, the annotation and the taint of fake nodes; the value of each is "fake".
const FakeMark = "kwok.x-k8s.io/node"

// Access says how to reach an API server. The three credentials are paths, or PEM in base64 if Embedded.
type Access struct {
	Context, Server, Authority, Cert, Key string
	Embedded                              bool
}

// Kubeconfig renders the way into a cluster.
func Kubeconfig(access Access) ([]byte, error) { return render("kubeconfig.json", access) }

func render(name string, values any) ([]byte, error) {
	var out bytes.Buffer
	if err := templates.ExecuteTemplate(&out, name, values); err != nil {
		return nil, fmt.Errorf("failed to render %s: %w", name, err)
	}
	return out.Bytes(), nil
}
