package command

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"valerix.io/cluster/internal/config"
	"valerix.io/cluster/internal/image"
	"valerix.io/cluster/internal/node"
	"valerix.io/cluster/internal/policy"
	"valerix.io/cluster/internal/preflight"
	"valerix.io/cluster/internal/volume"
)

func preflightCommand(fail func(int)) *cobra.Command {
	var asJSON, install bool
	command := &cobra.Command{
		Use:   "preflight",
		Short: "List what this host lacks, one line each; the exit code is 0 if it lacks nothing and 3 if it does",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			problems, err := examine()
			if err != nil {
				return err
			}
			if cure := preflight.CureFor(problems); install && !cure.Empty() {
				if err := preflight.Install(command.Context(), cure, os.Stderr); err != nil {
					return err
				}
				if problems, err = examine(); err != nil {
					return err
				}
			}
			if len(problems) > 0 {
				fail(3)
			}
			if asJSON {
				return json.NewEncoder(os.Stdout).Encode(problems)
			}
			for _, problem := range problems {
				fmt.Println(problem)
			}
			return nil
		},
	}
	command.Flags().BoolVar(&asJSON, "json", false, "write a JSON array")
	command.Flags().BoolVar(&install, "install", false, "install the missing packages with apt-get and load the missing kernel modules")
	return command
}

func examine() ([]preflight.Problem, error) {
	facts, err := preflight.Look()
	if err != nil {
		return nil, err
	}
	var programs []string
	for _, recipe := range image.Recipes {
		programs = append(programs, recipe.Programs()...)
	}
	slices.Sort(programs)
	problems := preflight.Examine(facts, slices.Compact(programs))
	if problems == nil {
		problems = []preflight.Problem{} // An empty array in JSON.
	}
	return problems, nil
}

func nodeCommand() *cobra.Command {
	var spec node.Spec
	command := &cobra.Command{
		Use:    "node",
		Short:  "The first process of a node",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return node.Run(spec) },
	}
	flags := command.Flags()
	flags.StringVar(&spec.Cluster, "cluster", "", "name of the cluster")
	flags.StringVar(&spec.CNIBin, "cni-bin", "", "folder of the CNI plugins")
	flags.IntVar(&spec.Number, "number", 0, "number of the node")
	flags.IntVar(&spec.Index, "index", 0, "index of the cluster")
	flags.IntVar(&spec.FakeNodes, "fake-nodes", 0, "how many nodes of the cluster are fake")
	command.PreRunE = func(command *cobra.Command, _ []string) (err error) {
		spec.State, err = command.Flags().GetString("state")
		return err
	}
	return command
}

func localVolumesCommand() *cobra.Command {
	var kubeconfig, nodeName, dir string
	command := &cobra.Command{
		Use:    "local-volumes",
		Short:  "The component of a node that makes its volumes",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			client, err := clientOf(kubeconfig)
			if err != nil {
				return err
			}
			volume.New(client, config.Provisioner, nodeName, dir).Run(command.Context())
			return nil
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "way to the API server")
	command.Flags().StringVar(&nodeName, "node", "", "name of the node")
	command.Flags().StringVar(&dir, "dir", "", "folder of the volumes")
	return command
}

func networkPoliciesCommand() *cobra.Command {
	var kubeconfig, machines, pods string
	command := &cobra.Command{
		Use:    "network-policies",
		Short:  "The component of a node that enforces NetworkPolicies",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			client, err := clientOf(kubeconfig)
			if err != nil {
				return err
			}
			link, err := netip.ParsePrefix(machines)
			if err != nil {
				return fmt.Errorf("failed to read --machines: %w", err)
			}
			within, err := netip.ParsePrefix(pods)
			if err != nil {
				return fmt.Errorf("failed to read --pods: %w", err)
			}
			policy.Enforce(command.Context(), client, link, within)
			return nil
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "way to the API server")
	command.Flags().StringVar(&machines, "machines", "", "range of the addresses of the nodes and their host, which are let through")
	// A cluster that an older program brought up does not say it, and has no fake nodes: all its pods count.
	command.Flags().StringVar(&pods, "pods", "0.0.0.0/0", "range of the addresses of the pods")
	return command
}

// clientOf is how a component of a node reaches the API server.
func clientOf(kubeconfig string) (kubernetes.Interface, error) {
	access, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("failed to read the kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return nil, fmt.Errorf("failed to use the kubeconfig: %w", err)
	}
	return client, nil
}
