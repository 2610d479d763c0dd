package bench;

import io.github.resilience4j.circuitbreaker.CircuitBreaker;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.results.RunResult;
import org.openjdk.jmh.runner.Runner;
import org.openjdk.jmh.runner.options.OptionsBuilder;
import org.openjdk.jmh.runner.options.TimeValue;
import org.openjdk.jmh.runner.options.VerboseMode;

/** Speaks the protocol of benches/measure; each question is one JMH run in a fresh JVM, warmed up first. */
public final class Main {
  private static final Map<String, String> ROWS = new LinkedHashMap<>();

  static {
    ROWS.put("breaker/closed", "closed");
    ROWS.put("breaker/open", "open");
    ROWS.put("breaker/two threads", "twoThreads");
  }

  private Main() {}

  public static void main(String[] arguments) throws Exception {
    String rows = "\"" + String.join("\",\"", ROWS.keySet()) + "\"";
    String version = version();
    System.out.printf(
        "{\"contenders\":[{\"name\":\"resilience4j\",\"version\":\"%s\",\"rows\":[%s]}]}%n", version, rows);
    BufferedReader questions = new BufferedReader(new InputStreamReader(System.in));
    for (String line = questions.readLine(); line != null; line = questions.readLine()) {
      String benchmark = ROWS.get(field(line, "\"row\":\"([^\"]*)\""));
      long millis = Long.parseLong(field(line, "\"millis\":([0-9]+)"));
      System.out.printf("{\"value\":%s}%n", measure(benchmark, millis));
    }
  }

  /** Of its jar file's name: resilience4j writes its version nowhere else. */
  private static String version() {
    String path = CircuitBreaker.class.getProtectionDomain().getCodeSource().getLocation().getPath();
    return path.replaceAll(".*-([0-9.]+)\\.jar$", "$1");
  }

  private static double measure(String benchmark, long millis) throws Exception {
    RunResult result =
        new Runner(
                new OptionsBuilder()
                    .include("^bench\\.Breaker\\." + benchmark + "$")
                    .mode(Mode.AverageTime)
                    .forks(1)
                    .warmupIterations(5)
                    .warmupTime(TimeValue.milliseconds(millis))
                    .measurementIterations(1)
                    .measurementTime(TimeValue.milliseconds(millis))
                    .addProfiler(CpuTime.class)
                    .verbosity(VerboseMode.SILENT)
                    .build())
            .runSingle();
    return result.getSecondaryResults().get(CpuTime.LABEL).getScore();
  }

  private static String field(String line, String pattern) {
    Matcher matcher = Pattern.compile(pattern).matcher(line.replace("\": ", "\":"));
    if (!matcher.find()) {
      throw new IllegalArgumentException("no " + pattern + " in " + line);
    }
    return matcher.group(1);
  }
}
