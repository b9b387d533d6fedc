"""Creates the queues each time LocalStack has started: its community edition forgets them at a restart.

What it creates is in queues.json, which dev/localstack/queues.test.ts keeps equal to shared/src/queues.ts.
LocalStack runs this file in its own process, which has boto3.
"""

import json

import boto3

with open("/etc/localstack/init/ready.d/queues.json", encoding="utf-8") as file:
    definition = json.load(file)

sqs = boto3.client(
    "sqs",
    endpoint_url="http://localhost:4566",
    region_name=definition["region"],
    aws_access_key_id="test",
    aws_secret_access_key="test",
)
for queue in definition["queues"]:
    try:
        sqs.create_queue(QueueName=queue["name"], Attributes=queue["attributes"])
    except sqs.exceptions.QueueNameExists:
        # Kept from before (editions with persistence), with other attributes.
        url = sqs.get_queue_url(QueueName=queue["name"])["QueueUrl"]
        sqs.set_queue_attributes(QueueUrl=url, Attributes=queue["attributes"])
    print(f"queue {queue['name']} is there", flush=True)
