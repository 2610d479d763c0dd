// Package network joins the nodes of a cluster with each other and with the host.
//
// The switch between them, the fabric, is a bridge in a network namespace of its own, and the host sees one link,
// vlx<c>, into it:
//
//	host ─ vlx<c> 10.201.c.1/24 ─┐
//	                        bridge "nodes"      (namespace of the fabric)
//	node 1 ─ eth0 10.201.c.2/24 ─┤
//	node 2 ─ eth0 10.201.c.3/24 ─┘
//
// The namespace exists only because the nodes' first processes hold it open. When the last of them dies, however it
// dies, the kernel takes the fabric away, and with it the host's link, address and routes: nothing is left to clean.
// A bridge on the host would outlive its nodes, and the host's own packet filter would see the nodes' traffic.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"valerix.io/cluster/internal/address"
)

const (
	bridgeName = "nodes"
	uplinkName = "host"
	// NodeLink is the node's own link into the fabric.
	NodeLink = "eth0"
)

// NewNamespace makes a network namespace that exists for as long as somebody holds the returned file open.
func NewNamespace() (*os.File, error) {
	type result struct {
		file *os.File
		err  error
	}
	done := make(chan result)
	go func() {
		// Never unlocked: the thread that changed its namespace ends with this goroutine and is not used again.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("failed to make a network namespace: %w", err)}
			return
		}
		file, err := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		done <- result{file, err}
	}()
	made := <-done
	return made.file, made.err
}

// FabricOf opens the fabric that a living node's first process, which has that id, holds open as its given descriptor.
func FabricOf(pid, descriptor int) (*os.File, error) {
	fabric, err := os.Open(fmt.Sprintf("/proc/%d/fd/%d", pid, descriptor))
	if err != nil {
		return nil, fmt.Errorf("failed to open the fabric of a running node: %w", err)
	}
	return fabric, nil
}

// ConnectHost builds the fabric and gives the host its link into it, with routes to all pods and services.
func ConnectHost(plan address.Plan, fabric *os.File) error {
	err := netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: plan.LinkName()},
		PeerName:      uplinkName,
		PeerNamespace: netlink.NsFd(int(fabric.Fd())),
	})
	if err != nil {
		return fmt.Errorf("failed to make the host's link %s: %w", plan.LinkName(), err)
	}
	err = within(fabric, func(h *netlink.Handle) error {
		if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}); err != nil {
			return fmt.Errorf("failed to make the bridge: %w", err)
		}
		if err := up(h, bridgeName); err != nil {
			return err
		}
		return plug(h, uplinkName)
	})
	if err != nil {
		return err
	}
	return within(nil, func(h *netlink.Handle) error {
		if err := configure(h, plan.LinkName(), netip.PrefixFrom(plan.Host(), plan.Link.Bits())); err != nil {
			return err
		}
		// The kube-proxy of node 1 answers for every service.
		return addRoute(h, plan.LinkName(), plan.Services, plan.Node(1), netip.Addr{})
	})
}

// ConnectNode gives node n, whose first process has that id, its link into the fabric.
func ConnectNode(plan address.Plan, fabric *os.File, n, pid int) error {
	port := fmt.Sprintf("node-%d", n)
	err := within(fabric, func(h *netlink.Handle) error {
		// The kernel takes the link of a node that was killed away with its namespace, in its own time.
		if old, err := h.LinkByName(port); err == nil {
			if err := h.LinkDel(old); err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
				return fmt.Errorf("failed to remove the link of the node's last life: %w", err)
			}
		}
		err := h.LinkAdd(&netlink.Veth{
			LinkAttrs:     netlink.LinkAttrs{Name: port},
			PeerName:      NodeLink,
			PeerNamespace: netlink.NsPid(pid),
		})
		if err != nil {
			return fmt.Errorf("failed to make the node's link: %w", err)
		}
		return plug(h, port)
	})
	if err != nil {
		return err
	}
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return fmt.Errorf("failed to enter the node's network: %w", err)
	}
	defer namespace.Close()
	err = within(namespace, func(h *netlink.Handle) error {
		if err := up(h, "lo"); err != nil {
			return err
		}
		if err := configure(h, NodeLink, netip.PrefixFrom(plan.Node(n), plan.Link.Bits())); err != nil {
			return err
		}
		for other := 1; other <= address.MaxNodes; other++ {
			if other == n {
				continue
			}
			if err := addRoute(h, NodeLink, plan.NodePods(other), plan.Node(other), netip.Addr{}); err != nil {
				return err
			}
		}
		// The kernel looks for a route before kube-proxy rewrites the destination, and there is no default route.
		return addRoute(h, NodeLink, plan.Services, netip.Addr{}, plan.Node(n))
	})
	if err != nil {
		return err
	}
	// Straight to the node: answers of its pods come straight back, and a way through another node would end with that.
	return within(nil, func(h *netlink.Handle) error {
		return addRoute(h, plan.LinkName(), plan.NodePods(n), plan.Node(n), netip.Addr{})
	})
}

// HostRoutes lists the host's IPv4 routes.
func HostRoutes() ([]address.Route, error) {
	found, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("failed to list the host's routes: %w", err)
	}
	names, err := linkNames()
	if err != nil {
		return nil, err
	}
	routes := make([]address.Route, 0, len(found))
	for _, route := range found {
		destination := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if route.Dst != nil {
			ip, _ := netip.AddrFromSlice(route.Dst.IP.To4())
			ones, _ := route.Dst.Mask.Size()
			destination = netip.PrefixFrom(ip, ones)
		}
		routes = append(routes, address.Route{Destination: destination, Device: names[route.LinkIndex]})
	}
	return routes, nil
}

// TakenIndices lists the cluster indices whose link exists on the host, whoever made them.
func TakenIndices() (map[int]string, error) {
	names, err := linkNames()
	if err != nil {
		return nil, err
	}
	taken := map[int]string{}
	for _, name := range names {
		var index int
		if n, _ := fmt.Sscanf(name, "vlx%d", &index); n == 1 {
			taken[index] = "link " + name
		}
	}
	return taken, nil
}

// LinkExists says whether the host has a link of that name.
func LinkExists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}

// WaitNoLink waits until the host has no link of that name and says whether that came true. The kernel takes a
// dead namespace apart in the background, a moment after its last process.
func WaitNoLink(name string, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); LinkExists(name); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// RemoveLink removes a link of the host; it is no error if there is none.
func RemoveLink(name string) error {
	link, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		return fmt.Errorf("failed to remove the host's link %s: %w", name, err)
	}
	return nil
}

func linkNames() (map[int]string, error) {
	links, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("failed to list the host's network links: %w", err)
	}
	names := map[int]string{}
	for _, link := range links {
		names[link.Index] = link.Name
	}
	return names, nil
}

// within works in a network namespace, or in the host's if none is given.
func within(namespace *os.File, work func(*netlink.Handle) error) error {
	at := netns.None()
	if namespace != nil {
		at = netns.NsHandle(int(namespace.Fd()))
	}
	handle, err := netlink.NewHandleAt(at)
	if err != nil {
		return fmt.Errorf("failed to work in a network namespace: %w", err)
	}
	defer handle.Close()
	return work(handle)
}

func configure(h *netlink.Handle, name string, prefix netip.Prefix) error {
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(prefix)})
	}
	if err != nil {
		return fmt.Errorf("failed to give %s the address %s: %w", name, prefix, err)
	}
	return up(h, name)
}

// plug puts a link into the bridge.
func plug(h *netlink.Handle, name string) error {
	bridge, err := h.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("failed to find the bridge: %w", err)
	}
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkSetMaster(link, bridge)
	}
	if err != nil {
		return fmt.Errorf("failed to plug %s into the bridge: %w", name, err)
	}
	return up(h, name)
}

func up(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err == nil {
		err = h.LinkSetUp(link)
	}
	if err != nil {
		return fmt.Errorf("failed to bring up %s: %w", name, err)
	}
	return nil
}

func addRoute(h *netlink.Handle, device string, to netip.Prefix, via, source netip.Addr) error {
	link, err := h.LinkByName(device)
	if err == nil {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to), Scope: netlink.SCOPE_LINK}
		if via.IsValid() {
			route.Gw, route.Scope = via.AsSlice(), netlink.SCOPE_UNIVERSE
		}
		if source.IsValid() {
			route.Src = source.AsSlice()
		}
		err = h.RouteReplace(route) // The host's route to a node outlives it where another node goes on.
	}
	if err != nil {
		return fmt.Errorf("failed to route %s through %s: %w", to, device, err)
	}
	return nil
}

func ipNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), 32)}
}
