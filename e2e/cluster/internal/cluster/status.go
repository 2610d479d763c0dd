package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"valerix.io/cluster/internal/address"
	"valerix.io/cluster/internal/layout"
	"valerix.io/cluster/internal/supervise"
)

// States of a cluster.
const (
	Absent   = "absent"   // There is no such cluster.
	Stopped  = "stopped"  // Its folder is there and nothing runs; `up` continues it.
	Starting = "starting" // It runs, and not all of it is ready.
	Ready    = "ready"
)

// Status is what can be told about a cluster.
type Status struct {
	Name       string       `json:"name"`
	State      string       `json:"state"`
	Why        string       `json:"why,omitempty"` // It is not ready.
	Kubeconfig string       `json:"kubeconfig,omitempty"`
	Context    string       `json:"context,omitempty"`
	AuditLog   string       `json:"auditLog,omitempty"`
	Server     string       `json:"server,omitempty"`
	Host       string       `json:"host,omitempty"` // The host's address as pods see it.
	Pods       string       `json:"pods,omitempty"`
	Services   string       `json:"services,omitempty"`
	DNS        string       `json:"dns,omitempty"`
	Nodes      []NodeStatus `json:"nodes,omitempty"`
}

// NodeStatus is what can be told about a node.
type NodeStatus struct {
	Name       string             `json:"name"`
	Address    string             `json:"address"`
	PID        int                `json:"pid,omitempty"` // Of its first process; killing that is losing the node.
	Logs       string             `json:"logs"`
	Components []supervise.Status `json:"components,omitempty"`
}

// Look returns the status of a cluster.
func Look(ctx context.Context, cluster layout.Cluster) (Status, error) {
	status := Status{Name: cluster.Name, State: Absent}
	known, recorded, err := loadRecord(cluster)
	if err != nil || !recorded {
		return status, err
	}
	plan, err := address.ForIndex(known.Index)
	if err != nil {
		return status, err
	}
	status = Status{
		Name: cluster.Name, State: Stopped,
		Kubeconfig: cluster.Kubeconfig(), Context: cluster.Context(), AuditLog: cluster.Audit(),
		Server: plan.Server(), Host: plan.Host().String(),
		Pods: plan.Pods.String(), Services: plan.Services.String(), DNS: plan.DNS().String(),
	}
	places, err := nodes(cluster)
	if err != nil {
		return status, err
	}
	alive := 0
	for _, place := range places {
		node := NodeStatus{Name: place.Name, Address: plan.Node(place.Number).String(), Logs: place.Logs()}
		running, err := nodeProcess(place)
		if err != nil {
			return status, err
		}
		if running.Alive() {
			alive++
			node.PID = running.PID
			if _, err := readJSON(place.Children(), &node.Components); err != nil {
				return status, err
			}
		}
		status.Nodes = append(status.Nodes, node)
	}
	if alive > 0 {
		status.State, status.Why = Ready, whyNotReady(ctx, cluster, status.Nodes)
		if status.Why != "" {
			status.State = Starting
		}
	}
	return status, nil
}

// whyNotReady returns the first reason, or nothing for a cluster that is ready.
func whyNotReady(ctx context.Context, cluster layout.Cluster, nodes []NodeStatus) string {
	for _, node := range nodes {
		if node.PID == 0 {
			return node.Name + " does not run"
		}
		for _, component := range node.Components {
			if component.PID == 0 {
				return component.Name + " does not run"
			}
		}
	}
	client, err := newClient(cluster)
	if err != nil {
		return err.Error()
	}
	for _, node := range nodes {
		found, err := client.CoreV1().Nodes().Get(ctx, node.Name, meta.GetOptions{})
		if err == nil {
			err = nodeReady(found)
		}
		if err != nil {
			return fmt.Sprintf("%s: %v", node.Name, err)
		}
	}
	return ""
}

// WriteJSON writes the status for programs.
func (s Status) WriteJSON(out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(s)
}

// WriteText writes the status for people.
func (s Status) WriteText(out io.Writer, now time.Time) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, value)
		}
	}
	row("cluster", s.Name)
	row("state", s.State)
	row("why", s.Why)
	row("kubeconfig", s.Kubeconfig)
	row("context", s.Context)
	row("audit log", s.AuditLog)
	row("server", s.Server)
	row("host", s.Host)
	row("pods", s.Pods)
	row("services", s.Services)
	row("dns", s.DNS)
	for _, node := range s.Nodes {
		row("node", fmt.Sprintf("%s at %s, pid %d", node.Name, node.Address, node.PID))
		row("logs", node.Logs)
		if len(node.Components) > 0 {
			fmt.Fprint(table, "\ncomponent\tpid\tage\trestarts\tlast exit\twaits for\n")
		}
		for _, c := range node.Components {
			age := ""
			if c.PID != 0 {
				age = now.Sub(c.Since).Round(time.Second).String()
			}
			fmt.Fprintf(table, "%s\t%d\t%s\t%d\t%s\t%s\n", c.Name, c.PID, age, c.Restarts, c.LastExit, c.Waiting)
		}
	}
	return table.Flush()
}
