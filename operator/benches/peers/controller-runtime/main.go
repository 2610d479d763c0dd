// An operator on controller-runtime that does for a ResilientService what ours does for the one of the bench: the same five
// children, compared before they are written, and a status with the same conditions. `make bench SUITE=operator` puts it
// beside ours.
//
// As controller-runtime comes, but for what would slow it down beside ours: no limit of requests a second (its default by
// now), as many workers as ours, JSON on the wire, since ours and the server of the bench know no other form, and no log.
// Cache, garbage collector and queue have their defaults. It watches what it makes, and neither pods nor EndpointSlices nor
// ReplicaSets, of which ours keeps caches too: pods are counted by what the Deployment says of them.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"runtime/debug"
	"strings"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// As many looks at a time as ours.
const workers = 16

func main() {
	if len(os.Args) > 1 && os.Args[1] == "--version" {
		fmt.Println(version())
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dependency := range info.Deps {
			if dependency.Path == "sigs.k8s.io/controller-runtime" {
				return strings.TrimPrefix(dependency.Version, "v")
			}
		}
	}
	return "unknown"
}

func run() error {
	kubeconfig := os.Getenv("KUBECONFIG")
	if kubeconfig == "" {
		return errors.New("KUBECONFIG names no file: this is a program of the bench, for its own server")
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	config.ContentType = runtime.ContentTypeJSON
	config.AcceptContentTypes = runtime.ContentTypeJSON
	log.SetLogger(logr.Discard())

	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, addToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	manager, err := manager.New(config, manager.Options{
		Scheme:                  scheme,
		MapperProvider:          mapper,
		Metrics:                 server.Options{BindAddress: "127.0.0.1:0"},
		HealthProbeBindAddress:  "127.0.0.1:0",
		LeaderElection:          true,
		LeaderElectionID:        "go-operator",
		LeaderElectionNamespace: "valerix-system",
	})
	if err != nil {
		return err
	}
	err = builder.ControllerManagedBy(manager).
		// Its own writing of the status brings no look.
		For(&ResilientService{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Owns(&corev1.ServiceAccount{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&corev1.Service{}).
		Owns(&appsv1.Deployment{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers}).
		Complete(&reconciler{client: manager.GetClient(), scheme: scheme})
	if err != nil {
		return err
	}
	return manager.Start(signals.SetupSignalHandler())
}

// mapper knows the kinds by itself, so that the server needs no discovery and nobody waits for it.
func mapper(*rest.Config, *http.Client) (meta.RESTMapper, error) {
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{"ServiceAccount", "ConfigMap", "Service"} {
		mapper.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	mapper.Add(appsv1.SchemeGroupVersion.WithKind("Deployment"), meta.RESTScopeNamespace)
	mapper.Add(groupVersion.WithKind("ResilientService"), meta.RESTScopeNamespace)
	return mapper, nil
}

type reconciler struct {
	client client.Client
	scheme *runtime.Scheme
}

// Reconcile makes the children of one service stand, the Deployment last, and says how it is.
func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	var service ResilientService
	if err := r.client.Get(ctx, request.NamespacedName, &service); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if service.DeletionTimestamp != nil {
		return reconcile.Result{}, nil
	}
	var live appsv1.Deployment
	if err := r.client.Get(ctx, request.NamespacedName, &live); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, err
	}
	configMap, err := buildConfigMap(&service, live.Status.ReadyReplicas)
	if err != nil {
		return reconcile.Result{}, err
	}
	children := []client.Object{
		buildServiceAccount(&service), configMap, buildService(&service), buildPodsService(&service), buildDeployment(&service),
	}
	for _, child := range children {
		if err := r.apply(ctx, &service, child); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{}, r.publish(ctx, &service, &live)
}

// apply makes a child stand, and writes nothing where it does.
func (r *reconciler) apply(ctx context.Context, service *ResilientService, desired client.Object) error {
	if err := controllerutil.SetControllerReference(service, desired, r.scheme); err != nil {
		return err
	}
	live := desired.DeepCopyObject().(client.Object)
	err := r.client.Get(ctx, client.ObjectKeyFromObject(desired), live)
	if apierrors.IsNotFound(err) {
		// One that the cache has not seen yet stands.
		return client.IgnoreAlreadyExists(r.client.Create(ctx, desired))
	}
	if err != nil {
		return err
	}
	if !metav1.IsControlledBy(live, service) {
		return fmt.Errorf("%s exists and belongs to somebody else", live.GetName())
	}
	if stands(desired, live) {
		return nil
	}
	changed := live.DeepCopyObject().(client.Object)
	put(desired, changed)
	return r.client.Patch(ctx, changed, client.MergeFrom(live))
}

// publish writes the status if it has changed.
func (r *reconciler) publish(ctx context.Context, service *ResilientService, live *appsv1.Deployment) error {
	before := service.DeepCopy()
	judge(service, live)
	if equality.Semantic.DeepEqual(before.Status, service.Status) {
		return nil
	}
	return r.client.Status().Patch(ctx, service, client.MergeFrom(before))
}

// judge says of a service what its Deployment shows.
func judge(service *ResilientService, live *appsv1.Deployment) {
	desired, ready := service.Spec.replicas(), live.Status.ReadyReplicas
	isObserved := live.UID != "" && live.Status.ObservedGeneration >= live.Generation
	isAvailable := isObserved && live.Status.AvailableReplicas >= desired
	isComplete := isObserved && live.Status.UpdatedReplicas >= desired && live.Status.Replicas <= live.Status.UpdatedReplicas
	status := &service.Status
	status.ObservedGeneration = service.Generation
	status.Replicas = live.Status.Replicas
	status.ReadyReplicas = ready
	status.Selector = serviceLabel + "=" + service.Name
	status.Summary = &Summary{
		Replicas: fmt.Sprintf("%d/%d", ready, desired),
		Config:   fmt.Sprintf("%d/%d", ready, ready),
		Circuits: "-",
		Image:    service.Spec.Image[strings.LastIndex(service.Spec.Image, "/")+1:],
	}
	so := fmt.Sprintf("%d of %d pods are ready", ready, desired)
	set := func(kind string, holds bool, good, bad, message string) {
		condition := metav1.Condition{
			Type: kind, Status: metav1.ConditionFalse, Reason: bad, Message: message, ObservedGeneration: service.Generation,
		}
		if holds {
			condition.Status, condition.Reason = metav1.ConditionTrue, good
		}
		meta.SetStatusCondition(&status.Conditions, condition)
	}
	set("Ready", isAvailable && isComplete, "AllPodsCurrent", "WaitingForPods", so)
	set("Available", isAvailable, "MinimumReplicasAvailable", "WaitingForPods", so)
	set("Progressing", !isComplete, "RollingOut", "RolloutComplete",
		fmt.Sprintf("%d of %d pods are of the current template", live.Status.UpdatedReplicas, desired))
	set("ConfigApplied", true, "AllPodsCurrent", "", "the pods do not report; what they run is not known")
	set("CircuitsClosed", true, "NoTargets", "", "the service has no targets")
	set("ResourcesReady", true, "AllApplied", "", "every owned object stands as desired")
	if isAvailable && isComplete {
		meta.RemoveStatusCondition(&status.Conditions, "Reconciling")
	} else {
		set("Reconciling", true, "RollingOut", "", so)
	}
}
