// Command cluster is a Kubernetes distribution in one binary: the commands that bring a cluster up and down, and, when
// the first argument names one, every component that such a cluster is made of.
package main

import (
	"os"

	"valerix.io/cluster/internal/command"
	"valerix.io/cluster/internal/component"
)

func main() {
	if len(os.Args) > 1 && component.Is(os.Args[1]) {
		os.Exit(component.Run(os.Args[1:]))
	}
	os.Exit(command.Execute(func(arguments []string) int {
		return component.Run(append([]string{component.Kubectl}, arguments...))
	}))
}
