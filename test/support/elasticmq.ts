import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import type { Availability } from './containers.ts';

/** The first with the JSON protocol, which the SDK speaks, is 1.5. */
const VERSION = '1.7.1';
const CACHE = path.join(
  process.env['XDG_CACHE_HOME'] || path.join(homedir(), '.cache'),
  'order-pipeline',
  `elasticmq-${VERSION}`,
);
const CLASSPATH_FILE = path.join(CACHE, 'classpath.txt');
const POM = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>order-pipeline</groupId>
  <artifactId>elasticmq</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.elasticmq</groupId>
      <artifactId>elasticmq-server_3</artifactId>
      <version>${VERSION}</version>
    </dependency>
  </dependencies>
</project>
`;

const JAVA = 'java';
const run = promisify(execFile);

/** Is there Java, and ElasticMQ in Maven's repository, or can Maven get it from Maven Central? */
export async function elasticMqAvailable(): Promise<Availability> {
  let missing = 'Java';
  try {
    await run(JAVA, ['-version']);
    missing = `ElasticMQ ${VERSION} (Maven)`;
    await classpath();
    return { available: true, reason: `ElasticMQ ${VERSION}` };
  } catch {
    return { available: false, reason: `skipped: no ${missing}` };
  }
}

async function classpath(): Promise<string> {
  const known = await readFile(CLASSPATH_FILE, 'utf8').catch(() => '');
  if (known !== '' && known.split(path.delimiter).every((jar) => existsSync(jar))) return known;
  await mkdir(CACHE, { recursive: true });
  await writeFile(path.join(CACHE, 'pom.xml'), POM);
  await run('mvn', ['-B', '-q', 'dependency:build-classpath', `-Dmdep.outputFile=${CLASSPATH_FILE}`], {
    cwd: CACHE,
  });
  return readFile(CLASSPATH_FILE, 'utf8');
}

/** ElasticMQ as a process, in memory, on the loopback interface. Says nothing about when it answers. */
export async function startElasticMq(port: number): Promise<{ stop: () => Promise<void> }> {
  const settings = {
    'rest-sqs.bind-hostname': '127.0.0.1',
    'rest-sqs.bind-port': port,
    'node-address.host': '127.0.0.1',
    'node-address.port': port,
    'rest-stats.enabled': false,
  };
  const properties = Object.entries(settings).map(([name, value]) => `-D${name}=${value}`);
  const process = spawn(
    JAVA,
    ['-Xmx256m', ...properties, '-cp', await classpath(), 'org.elasticmq.server.Main'],
    { stdio: 'ignore' },
  );
  return {
    stop: async () => {
      if (process.exitCode !== null || process.signalCode !== null) return;
      const ended = new Promise((resolve) => process.once('exit', resolve));
      // It keeps nothing that an orderly end would save, and takes ten seconds for one.
      process.kill('SIGKILL');
      await ended;
    },
  };
}
