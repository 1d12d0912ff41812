// @kubernetes/client-node at work: node client_node.cjs KUBECONFIG NAMESPACE. Prints one line of JSON per promise that was kept.
const k8s = require('@kubernetes/client-node');
const net = require('node:net');
const http = require('node:http');
const stream = require('node:stream');

const [kubeconfig, namespace] = process.argv.slice(2);
const config = new k8s.KubeConfig();
config.loadFromFile(kubeconfig);
const core = config.makeApiClient(k8s.CoreV1Api);
const apps = config.makeApiClient(k8s.AppsV1Api);
const kept = (promise, found) => console.log(JSON.stringify({ promise, found }));
const labels = { app: 'web' };
const container = { name: 'c', image: 'nginx', ports: [{ containerPort: 80 }] };

function collector() {
    const chunks = [];
    const sink = new stream.Writable({ write(chunk, encoding, done) { chunks.push(chunk); done(); } });
    return [sink, () => Buffer.concat(chunks).toString()];
}

async function until(look, what) {
    for (let left = 300; left > 0; left--) {
        if (await look()) return;
        await new Promise((go) => setTimeout(go, 100));
    }
    throw new Error(`not so after 30 s: ${what}`);
}

async function informer() {
    const told = [];
    const list = () => core.listNamespacedConfigMap({ namespace, labelSelector: 'seen=yes' });
    const watcher = k8s.makeInformer(config, `/api/v1/namespaces/${namespace}/configmaps`, list, 'seen=yes');
    for (const verb of ['add', 'update', 'delete']) watcher.on(verb, (obj) => told.push(`${verb} ${obj.metadata.name}`));
    await watcher.start();
    await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'i', labels: { seen: 'yes' } } } });
    await until(() => told.includes('add i'), 'the informer hears of it');
    const patch = [{ op: 'add', path: '/data', value: { k: 'v' } }];
    await core.patchNamespacedConfigMap({ namespace, name: 'i', body: patch });
    await until(() => told.includes('update i'), 'the informer hears of the change');
    await core.deleteNamespacedConfigMap({ namespace, name: 'i' });
    await until(() => told.includes('delete i'), 'the informer hears of the end');
    await watcher.stop();
    kept('informer', told);
}

async function deployment() {
    const template = { metadata: { labels }, spec: { containers: [container] } };
    const spec = { replicas: 1, selector: { matchLabels: labels }, template };
    await apps.createNamespacedDeployment({ namespace, body: { metadata: { name: 'web' }, spec } });
    const read = () => apps.readNamespacedDeployment({ namespace, name: 'web' });
    await until(async () => (await read()).status.availableReplicas === 1, 'the deployment is available');
    const pods = await core.listNamespacedPod({ namespace, labelSelector: 'app=web' });
    kept('deployment', pods.items.length);
    return pods.items[0].metadata.name;
}

async function exec(pod) {
    const [out, said] = collector();
    const [err, complained] = collector();
    const command = ['sh', '-c', 'echo said; echo aside >&2; exit 3'];
    const status = await new Promise((done, failed) => {
        new k8s.Exec(config).exec(namespace, pod, 'c', command, out, err, null, false, done).catch(failed);
    });
    kept('exec', [said(), complained(), status.details.causes[0].message]);
}

async function log(pod) {
    const [sink, written] = collector();
    await new k8s.Log(config).log(namespace, pod, 'c', sink, { tailLines: 1 });
    await until(() => written().includes('start worker processes'), 'the log is read');
    kept('log', true);
}

async function portForward(pod) {
    const forward = new k8s.PortForward(config);
    const server = net.createServer((socket) => forward.portForward(namespace, pod, [80], socket, null, socket));
    await new Promise((ready) => server.listen(0, '127.0.0.1', ready));
    const body = await new Promise((done, failed) => {
        http.get({ host: '127.0.0.1', port: server.address().port, path: '/', agent: false }, (answer) => {
            let text = '';
            answer.on('data', (data) => { text += data; });
            answer.on('end', () => done(text));
        }).on('error', failed);
    });
    server.close();
    kept('port-forward', body.includes('Welcome to nginx!'));
}

async function objects() {
    const client = k8s.KubernetesObjectApi.makeApiClient(config);
    const object = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'o', namespace }, data: { a: '1' } };
    await client.create(object);
    const type = k8s.PatchStrategy.ServerSideApply;
    await client.patch({ ...object, data: { a: '2' } }, undefined, undefined, 'other', true, type);
    const read = await client.read(object);
    await client.delete(object);
    const missing = await client.read(object).catch((failure) => failure.code);
    kept('objects', [read.data.a, missing]);
}

async function top() {
    const metrics = new k8s.Metrics(config);
    await until(async () => (await metrics.getPodMetrics(namespace)).items.length === 1, 'the pod is measured');
    kept('top', (await k8s.topNodes(core)).length >= 3);
}

(async () => {
    await informer();
    const pod = await deployment();
    await exec(pod);
    await log(pod);
    await portForward(pod);
    await objects();
    await top();
    process.exit(0);
})().catch((failure) => { console.error(failure); process.exit(1); });
