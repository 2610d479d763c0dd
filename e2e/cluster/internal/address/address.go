// Package address decides every address of a cluster. It is pure: what the host looks like is an argument.
//
// A cluster is given an index c, unique on its host, and everything follows from it:
//
//	10.201.c.0/24          the link between the host (.1) and the nodes (.2 and up)
//	10.(64+2c).0.0/16      pods, one /24 for each node
//	10.(65+2c).0.0/16      services, of which .0.1 is the API and .0.10 is DNS
package address

import (
	"fmt"
	"net/netip"
	"strings"
)

// Indices start at 1 and end where the service range would pass 10.199.0.0/16, well below the link range.
const (
	MinIndex = 1
	MaxIndex = 67
)

// MaxNodes is as many nodes as there are zones to tell apart. Each costs half a gigabyte of memory and its own copy of
// every image.
const MaxNodes = 3

// FakePods is where kwok's pods are said to be, in every cluster: no node has a route there, so whoever asks one is told
// so at once.
var FakePods = netip.MustParsePrefix("10.250.0.0/16")

// Plan holds the addresses of one cluster.
type Plan struct {
	Index    int
	Link     netip.Prefix // Between the host and the nodes.
	Pods     netip.Prefix
	Services netip.Prefix
}

// ForIndex returns the plan of the cluster with that index.
func ForIndex(index int) (Plan, error) {
	if index < MinIndex || index > MaxIndex {
		return Plan{}, fmt.Errorf("cluster index %d is outside %d to %d", index, MinIndex, MaxIndex)
	}
	c := byte(index)
	return Plan{
		Index:    index,
		Link:     netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 201, c, 0}), 24),
		Pods:     netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + 2*c, 0, 0}), 16),
		Services: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 65 + 2*c, 0, 0}), 16),
	}, nil
}

// LinkName is the name of the host's network link to the cluster.
func (p Plan) LinkName() string { return fmt.Sprintf("vlx%d", p.Index) }

// Host is the host's own address towards the cluster.
func (p Plan) Host() netip.Addr { return nth(p.Link, 0, 1) }

// Node is the address of node n; the first node is 1.
func (p Plan) Node(n int) netip.Addr { return nth(p.Link, 0, byte(n+1)) }

// NodePods is the pod range of node n.
func (p Plan) NodePods(n int) netip.Prefix { return netip.PrefixFrom(nth(p.Pods, byte(n), 0), 24) }

// API is the ClusterIP of kubernetes.default.svc.
func (p Plan) API() netip.Addr { return nth(p.Services, 0, 1) }

// DNS is the ClusterIP of kube-dns.
func (p Plan) DNS() netip.Addr { return nth(p.Services, 0, 10) }

// Server is the URL of the API server, the same for the host, the nodes and the pods.
func (p Plan) Server() string { return "https://" + netip.AddrPortFrom(p.Node(1), 6443).String() }

func nth(prefix netip.Prefix, third, fourth byte) netip.Addr {
	bytes := prefix.Addr().As4()
	bytes[2], bytes[3] = bytes[2]+third, bytes[3]+fourth
	return netip.AddrFrom4(bytes)
}

// LowestFree returns the lowest index that is not taken.
func LowestFree(taken map[int]string) (int, error) {
	for index := MinIndex; index <= MaxIndex; index++ {
		if _, used := taken[index]; !used {
			return index, nil
		}
	}
	return 0, fmt.Errorf("all %d cluster indices of this host are taken; end a cluster with `cluster down --name NAME`", MaxIndex)
}

// Route is a route of the host.
type Route struct {
	Destination netip.Prefix
	Device      string
}

// Overlap returns an error that names the first of the host's routes that a cluster with this plan would shadow.
// The default route and the routes of the cluster's own link are no conflict.
func (p Plan) Overlap(routes []Route) error {
	for _, route := range routes {
		if route.Destination.Bits() == 0 || route.Device == p.LinkName() {
			continue
		}
		for _, own := range []struct {
			name   string
			prefix netip.Prefix
		}{{"node", p.Link}, {"pod", p.Pods}, {"service", p.Services}} {
			if own.prefix.Overlaps(route.Destination) {
				return fmt.Errorf("the host's route %s (device %s) overlaps the %s range %s of cluster index %d; "+
					"remove the route (`ip route del %s`) or choose other ranges with `cluster up --index N`",
					route.Destination, orNone(route.Device), own.name, own.prefix, p.Index, route.Destination)
			}
		}
	}
	return nil
}

func orNone(device string) string {
	if strings.TrimSpace(device) == "" {
		return "none"
	}
	return device
}
