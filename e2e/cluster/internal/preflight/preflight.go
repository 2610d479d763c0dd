// Package preflight finds out what this host lacks before anything is started, and how to get it.
//
// This file decides and is pure; host.go looks at the real host.
package preflight

import (
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is missing.
type Problem struct {
	Kind    string `json:"kind"`              // "right", "kernel" or "program".
	Name    string `json:"name"`              // What is missing.
	For     string `json:"for"`               // "node" or "images".
	Detail  string `json:"detail,omitempty"`  // What was seen.
	Package string `json:"package,omitempty"` // The Debian package that brings it.
	Module  string `json:"module,omitempty"`  // The kernel module that brings it.
	Remedy  string `json:"remedy"`            // What a person can do.
}

func (p Problem) String() string {
	text := fmt.Sprintf("%s %s is missing (for %s)", p.Kind, p.Name, p.For)
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	return text + "; " + p.Remedy
}

// Purposes of a problem.
const (
	ForNode   = "node"
	ForImages = "images"
)

// Facts are what a host has.
type Facts struct {
	Root              bool
	Programs          map[string]bool // By name, on the search path.
	CNIPlugins        bool            // All of them, in one of the usual folders.
	Namespaces        map[string]bool
	Filesystems       map[string]bool
	CgroupControllers map[string]bool
	BridgeFilter      bool
	// Links and PacketFilter are the results of trying, in a network namespace made for it; nil means success.
	Links, PacketFilter error
}

type program struct{ name, pkg string }

var (
	nodePrograms = []program{
		{"containerd", "containerd"}, {"ctr", "containerd"}, {"containerd-shim-runc-v2", "containerd"},
		{"runc", "runc"}, {"iptables", "iptables"}, {"iptables-restore", "iptables"},
		{"nft", "nftables"},
	}
	imagePackages      = map[string]string{"buildah": "buildah", "mmdebstrap": "mmdebstrap", "cc": "gcc"}
	neededNamespaces   = []string{"ipc", "mnt", "net", "pid", "uts"}
	neededControllers  = []string{"cpu", "cpuset", "memory", "pids"}
	packetFilterModule = "iptable_nat"
)

// Examine lists what the facts lack for running a node and, with those programs, for building images.
func Examine(facts Facts, imagePrograms []string) (problems []Problem) {
	if !facts.Root {
		problems = append(problems, Problem{
			Kind: "right", Name: "root", For: ForNode,
			Remedy: "run the command as root, for example with sudo",
		})
	}
	for _, name := range neededNamespaces {
		if !facts.Namespaces[name] {
			problems = append(problems, kernel(name+" namespaces", "", "use a kernel with CONFIG_NAMESPACES"))
		}
	}
	if !facts.Filesystems["overlay"] {
		problems = append(problems, kernel("overlay file system", "overlay", ""))
	}
	if !facts.BridgeFilter {
		problems = append(problems, kernel("packet filter for bridges", "br_netfilter", ""))
	}
	for _, controller := range neededControllers {
		if !facts.CgroupControllers[controller] {
			problems = append(problems, kernel("control group controller "+controller, "",
				"mount it, or boot with it enabled (for memory: cgroup_enable=memory)"))
		}
	}
	if facts.Links != nil {
		problems = append(problems, detailed(kernel("veth links and bridges", "veth", ""), facts.Links))
	}
	for _, needed := range nodePrograms {
		if !facts.Programs[needed.name] {
			problems = append(problems, missingProgram(needed.name, needed.pkg, ForNode))
		}
	}
	if !facts.CNIPlugins {
		problems = append(problems, missingProgram("CNI plugins", "containernetworking-plugins", ForNode))
	}
	if facts.PacketFilter != nil && facts.Programs["iptables-restore"] {
		problems = append(problems, detailed(kernel("packet filter rules of services", packetFilterModule, ""), facts.PacketFilter))
	}
	for _, name := range imagePrograms {
		if !facts.Programs[name] {
			problems = append(problems, missingProgram(name, imagePackages[name], ForImages))
		}
	}
	return problems
}

func kernel(name, module, remedy string) Problem {
	if module != "" {
		remedy = "load it with `modprobe " + module + "`"
	}
	return Problem{Kind: "kernel", Name: name, For: ForNode, Module: module, Remedy: remedy}
}

func detailed(problem Problem, cause error) Problem {
	problem.Detail = cause.Error()
	return problem
}

func missingProgram(name, pkg, purpose string) Problem {
	return Problem{
		Kind: "program", Name: name, For: purpose, Package: pkg,
		Remedy: "install it with `apt-get install " + pkg + "`",
	}
}

// Cure is what can be done about problems without a person.
type Cure struct{ Packages, Modules []string }

// CureFor collects the packages to install and the modules to load.
func CureFor(problems []Problem) (cure Cure) {
	for _, problem := range problems {
		if problem.Package != "" {
			cure.Packages = append(cure.Packages, problem.Package)
			if problem.Package == "gcc" {
				cure.Packages = append(cure.Packages, "libc6-dev") // The static C library.
			}
		}
		if problem.Module != "" {
			cure.Modules = append(cure.Modules, problem.Module)
		}
	}
	for _, list := range []*[]string{&cure.Packages, &cure.Modules} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return cure
}

// Empty says whether nothing can be done.
func (c Cure) Empty() bool { return len(c.Packages)+len(c.Modules) == 0 }

// Error is what a command returns that cannot go on for these problems.
type Error []Problem

func (e Error) Error() string {
	lines := []string{"this host is not ready:"}
	for _, problem := range e {
		lines = append(lines, "  - "+problem.String())
	}
	if !CureFor(e).Empty() {
		lines = append(lines, "`cluster preflight --install` does what can be done")
	}
	return strings.Join(lines, "\n")
}
