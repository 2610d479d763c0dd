// Package policy enforces NetworkPolicies on one node, with the kernel's packet filter.
//
// This file decides and is pure: pods, namespaces and policies go in, the rules come out as text for nft(8).
//
// A connection is judged by what conntrack knows of it: the address that opened it, and the pod and port that it reached
// after kube-proxy chose one. So packets both ways get one judgement, and a connection that was open when a policy
// came is cut. What is not allowed is dropped, not refused, as by most networks.
package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Table is the name of our table in the packet filter.
const Table = "valerix-policy"

// World is what rules depend on.
type World struct {
	// Machines is the range of the nodes' own addresses and their host's. They may reach every pod, as a node may its
	// own pods: kubelets ask probes, and the host is where people and tests sit.
	Machines netip.Prefix
	// Range is where pods are. One elsewhere is fake: nobody sends it a packet, and thousands would slow the filter down.
	Range      netip.Prefix
	Pods       []*core.Pod
	Namespaces []*core.Namespace
	Policies   []*networking.NetworkPolicy
}

// direction is which end of a connection a policy selects.
type direction struct {
	kind networking.PolicyType
	// own and peer match the address of the selected pod and of the other end.
	own, peer string
}

var (
	ingress = direction{networking.PolicyTypeIngress, "ct reply ip saddr", "ct original ip saddr"}
	egress  = direction{networking.PolicyTypeEgress, "ct original ip saddr", "ct reply ip saddr"}
)

// Rules renders one transaction that replaces our table as a whole.
func Rules(world World) (string, error) {
	world.Pods = slices.Clone(world.Pods)
	world.Pods = slices.DeleteFunc(world.Pods, func(pod *core.Pod) bool { return !world.Range.Contains(address(pod)) })
	slices.SortFunc(world.Pods, func(a, b *core.Pod) int { return address(a).Compare(address(b)) })
	policies := slices.Clone(world.Policies)
	slices.SortFunc(policies, func(a, b *networking.NetworkPolicy) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})

	var text strings.Builder
	fmt.Fprintf(&text, "add table ip %[1]s\ndelete table ip %[1]s\ntable ip %[1]s {\n", Table)
	var jumps []string
	for _, towards := range []direction{ingress, egress} {
		isolated := map[netip.Addr]bool{}
		var allowed []string
		for _, policy := range policies {
			if !slices.Contains(policy.Spec.PolicyTypes, towards.kind) {
				continue
			}
			selected, err := world.selectPods(&policy.Spec.PodSelector, func(namespace string) bool { return namespace == policy.Namespace })
			if err != nil {
				return "", fmt.Errorf("NetworkPolicy %s/%s: %w", policy.Namespace, policy.Name, err)
			}
			for _, pod := range selected {
				isolated[address(pod)] = true
			}
			rules, err := world.allow(policy, selected, towards)
			if err != nil {
				return "", fmt.Errorf("NetworkPolicy %s/%s: %w", policy.Namespace, policy.Name, err)
			}
			allowed = append(allowed, rules...)
		}
		if len(isolated) == 0 {
			continue
		}
		chain := strings.ToLower(string(towards.kind))
		fmt.Fprintf(&text, "  chain %s {\n", chain)
		for _, rule := range allowed {
			fmt.Fprintf(&text, "    %s return\n", rule)
		}
		text.WriteString("    drop\n  }\n")
		pods := slices.SortedFunc(maps.Keys(isolated), netip.Addr.Compare)
		jumps = append(jumps, fmt.Sprintf("%s %s jump %s", towards.own, set(pods), chain))
	}
	if len(jumps) > 0 {
		fmt.Fprintf(&text, "  chain forward {\n    type filter hook forward priority -10;\n    ct original ip saddr %s accept\n", world.Machines)
		for _, jump := range jumps {
			fmt.Fprintf(&text, "    %s\n", jump)
		}
		text.WriteString("  }\n")
	}
	text.WriteString("}\n")
	return text.String(), nil
}

// rule is one entry of a policy, whichever way it looks.
type rule struct {
	peers []networking.NetworkPolicyPeer
	ports []networking.NetworkPolicyPort
}

// allow lists what a policy lets through to or from the pods that it selects, each as the matches of one rule.
func (w World) allow(policy *networking.NetworkPolicy, selected []*core.Pod, towards direction) (allowed []string, err error) {
	if len(selected) == 0 {
		return nil, nil
	}
	var entries []rule
	if towards == ingress {
		for _, entry := range policy.Spec.Ingress {
			entries = append(entries, rule{entry.From, entry.Ports})
		}
	} else {
		for _, entry := range policy.Spec.Egress {
			entries = append(entries, rule{entry.To, entry.Ports})
		}
	}
	own := towards.own + " " + set(addresses(selected))
	for _, entry := range entries {
		peers, named, err := w.peers(policy.Namespace, entry.peers)
		if err != nil {
			return nil, err
		}
		// A port has its number from the pod that is reached.
		reached := selected
		if towards == egress {
			reached = named
		}
		for _, port := range ports(entry.ports, reached) {
			for _, peer := range peers {
				match := []string{own}
				if peer != "" {
					match = append(match, towards.peer+" "+peer)
				}
				if port != "" {
					match = append(match, port)
				}
				allowed = append(allowed, strings.Join(match, " "))
			}
		}
	}
	return allowed, nil
}

// peers returns what the other end may be, as sets for a match; an empty string is anybody. The pods among them are
// returned too; for anybody, all of them.
func (w World) peers(namespace string, listed []networking.NetworkPolicyPeer) (sets []string, pods []*core.Pod, err error) {
	if len(listed) == 0 {
		return []string{""}, w.Pods, nil
	}
	for _, peer := range listed {
		if block := peer.IPBlock; block != nil {
			if len(block.Except) == 0 {
				sets = append(sets, block.CIDR)
				continue
			}
			rest, err := without(block.CIDR, block.Except)
			if err != nil {
				return nil, nil, err
			}
			sets = append(sets, rest...)
			continue
		}
		within := func(of string) bool { return of == namespace }
		if peer.NamespaceSelector != nil {
			if within, err = w.selectNamespaces(peer.NamespaceSelector); err != nil {
				return nil, nil, err
			}
		}
		selector := peer.PodSelector
		if selector == nil {
			selector = &meta.LabelSelector{}
		}
		found, err := w.selectPods(selector, within)
		if err != nil {
			return nil, nil, err
		}
		if len(found) > 0 {
			pods, sets = append(pods, found...), append(sets, set(addresses(found)))
		}
	}
	return sets, pods, nil
}

// ports returns matches for the ports of an entry; an empty string is any port. One with a name is that of each pod that
// is reached and has it.
func ports(listed []networking.NetworkPolicyPort, reached []*core.Pod) (matches []string) {
	if len(listed) == 0 {
		return []string{""}
	}
	for _, port := range listed {
		protocol := core.ProtocolTCP
		if port.Protocol != nil {
			protocol = *port.Protocol
		}
		of := "ct protocol " + strings.ToLower(string(protocol))
		switch {
		case port.Port == nil:
			matches = append(matches, of)
		case port.Port.Type == intstr.Int && port.EndPort != nil:
			matches = append(matches, fmt.Sprintf("%s ct reply proto-src %d-%d", of, port.Port.IntVal, *port.EndPort))
		case port.Port.Type == intstr.Int:
			matches = append(matches, fmt.Sprintf("%s ct reply proto-src %d", of, port.Port.IntVal))
		default:
			for _, pod := range reached {
				if number := numberOf(pod, port.Port.StrVal, protocol); number != 0 {
					matches = append(matches, fmt.Sprintf("%s ct reply ip saddr %s ct reply proto-src %d", of, address(pod), number))
				}
			}
		}
	}
	return matches
}

// numberOf is the number of a pod's named port, sidecars' included, or 0.
func numberOf(pod *core.Pod, name string, protocol core.Protocol) int32 {
	for _, containers := range [][]core.Container{pod.Spec.Containers, pod.Spec.InitContainers} {
		for _, container := range containers {
			for _, port := range container.Ports {
				if port.Name == name && (port.Protocol == protocol || (port.Protocol == "" && protocol == core.ProtocolTCP)) {
					return port.ContainerPort
				}
			}
		}
	}
	return 0
}

func (w World) selectPods(by *meta.LabelSelector, within func(namespace string) bool) (found []*core.Pod, err error) {
	selector, err := meta.LabelSelectorAsSelector(by)
	if err != nil {
		return nil, fmt.Errorf("failed to read a selector of pods: %w", err)
	}
	for _, pod := range w.Pods {
		if within(pod.Namespace) && selector.Matches(labels.Set(pod.Labels)) {
			found = append(found, pod)
		}
	}
	return found, nil
}

func (w World) selectNamespaces(by *meta.LabelSelector) (func(string) bool, error) {
	selector, err := meta.LabelSelectorAsSelector(by)
	if err != nil {
		return nil, fmt.Errorf("failed to read a selector of namespaces: %w", err)
	}
	found := map[string]bool{}
	for _, namespace := range w.Namespaces {
		found[namespace.Name] = selector.Matches(labels.Set(namespace.Labels))
	}
	return func(name string) bool { return found[name] }, nil
}

// address is the pod's own address; pods that have ended, and those that use their node's, have none.
func address(pod *core.Pod) netip.Addr {
	if pod.Spec.HostNetwork || pod.Status.Phase == core.PodSucceeded || pod.Status.Phase == core.PodFailed {
		return netip.Addr{}
	}
	parsed, _ := netip.ParseAddr(pod.Status.PodIP)
	return parsed
}

func addresses(pods []*core.Pod) (all []netip.Addr) {
	for _, pod := range pods {
		all = append(all, address(pod))
	}
	return all
}

func set(addresses []netip.Addr) string {
	words := make([]string, len(addresses))
	for i, address := range addresses {
		words[i] = address.String()
	}
	return "{ " + strings.Join(words, ", ") + " }"
}

// without is a range less others, as the ranges that are left.
func without(cidr string, except []string) ([]string, error) {
	whole, err := netip.ParsePrefix(cidr)
	if err != nil {
		return nil, fmt.Errorf("failed to read ipBlock.cidr: %w", err)
	}
	left := []netip.Prefix{whole.Masked()}
	for _, hole := range except {
		parsed, err := netip.ParsePrefix(hole)
		if err != nil {
			return nil, fmt.Errorf("failed to read ipBlock.except: %w", err)
		}
		var next []netip.Prefix
		for _, prefix := range left {
			next = append(next, cut(prefix, parsed.Masked())...)
		}
		left = next
	}
	words := make([]string, len(left))
	for i, prefix := range left {
		words[i] = prefix.String()
	}
	return words, nil
}

// cut halves a range until the hole is one of the halves.
func cut(prefix, hole netip.Prefix) []netip.Prefix {
	if !prefix.Overlaps(hole) {
		return []netip.Prefix{prefix}
	}
	if hole.Bits() <= prefix.Bits() {
		return nil
	}
	low := netip.PrefixFrom(prefix.Addr(), prefix.Bits()+1)
	bytes := prefix.Addr().As4()
	bytes[prefix.Bits()/8] |= 0x80 >> (prefix.Bits() % 8)
	high := netip.PrefixFrom(netip.AddrFrom4(bytes), prefix.Bits()+1)
	return append(cut(low, hole), cut(high, hole)...)
}
