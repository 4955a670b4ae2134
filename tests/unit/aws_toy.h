/*
 * Small services for the unit tests of the AWS codecs, compiled by the
 * run-time compiler.
 */
#ifndef HGA_TEST_AWS_TOY_H
#define HGA_TEST_AWS_TOY_H

#include "aws/image.h"
#include "aws/modelc.h"
#include "base/json.h"
#include "base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOY_META(protocol)                                                     \
	"{\"metadata\":{\"apiVersion\":\"2020-01-01\",\"protocol\":"           \
	"\"" protocol "\",\"endpointPrefix\":\"toy\",\"jsonVersion\":\"1.1\"," \
	"\"targetPrefix\":\"Toy\",\"serviceId\":\"Toy\"},"

#define TOY_BODY                                                               \
	"\"operations\":{"                                                     \
	"\"DescribeThings\":{\"input\":{\"shape\":\"In\"},"                    \
	"\"output\":{\"shape\":\"Out\"},\"errors\":[{\"shape\":\"Busy\"}]},"   \
	"\"CreateThing\":{\"input\":{\"shape\":\"CreateIn\"},"                 \
	"\"output\":{\"shape\":\"Out\"}},"                                     \
	"\"DeleteThing\":{\"input\":{\"shape\":\"CreateIn\"}},"                \
	"\"RunARNs\":{\"endpoint\":{\"hostPrefix\":\"{Name}-x.\"},"            \
	"\"input\":{\"shape\":\"CreateIn\"}}},"                                \
	"\"shapes\":{"                                                         \
	"\"In\":{\"type\":\"structure\",\"required\":[\"Ids\"],\"members\":{"  \
	"\"Ids\":{\"shape\":\"Ids\",\"locationName\":\"id\"},"                 \
	"\"MaxResults\":{\"shape\":\"Int\"},"                                  \
	"\"Kind\":{\"shape\":\"Kind\"},"                                       \
	"\"Secret\":{\"shape\":\"Hidden\"},"                                   \
	"\"Where\":{\"shape\":\"Where\"},"                                     \
	"\"Choice\":{\"shape\":\"Choice\"},"                                   \
	"\"Tags\":{\"shape\":\"Tags\"},"                                       \
	"\"When\":{\"shape\":\"Time\"}}},"                                     \
	"\"CreateIn\":{\"type\":\"structure\",\"members\":{"                   \
	"\"Name\":{\"shape\":\"Str\",\"hostLabel\":true},"                     \
	"\"ClientToken\":{\"shape\":\"Str\",\"idempotencyToken\":true}}},"     \
	"\"Out\":{\"type\":\"structure\",\"members\":{"                        \
	"\"Things\":{\"shape\":\"Things\",\"locationName\":\"thingSet\"},"     \
	"\"Flat\":{\"shape\":\"Flat\",\"flattened\":true},"                    \
	"\"Other\":{\"shape\":\"Flat\",\"flattened\":true},"                   \
	"\"Choice\":{\"shape\":\"Choice\"},"                                   \
	"\"Tags\":{\"shape\":\"Tags\"},"                                       \
	"\"Count\":{\"shape\":\"Int\",\"locationName\":\"count\"},"            \
	"\"NextToken\":{\"shape\":\"Str\",\"locationName\":\"nextToken\"}}},"  \
	"\"Things\":{\"type\":\"list\",\"member\":{\"shape\":\"Thing\","       \
	"\"locationName\":\"item\"}},"                                         \
	"\"Thing\":{\"type\":\"structure\",\"members\":{"                      \
	"\"ThingId\":{\"shape\":\"Str\",\"locationName\":\"thingId\"},"        \
	"\"Made\":{\"shape\":\"Time\",\"locationName\":\"made\"},"             \
	"\"On\":{\"shape\":\"Bool\",\"locationName\":\"on\"},"                 \
	"\"Data\":{\"shape\":\"Blob\",\"locationName\":\"data\"},"             \
	"\"Inner\":{\"shape\":\"Thing\",\"locationName\":\"inner\"}}},"        \
	"\"Choice\":{\"type\":\"structure\",\"union\":true,\"members\":{"      \
	"\"A\":{\"shape\":\"Str\"},\"B\":{\"shape\":\"Int\"}}},"               \
	"\"Where\":{\"type\":\"structure\",\"members\":{"                      \
	"\"AvailabilityZone\":{\"shape\":\"Str\"}}},"                          \
	"\"Busy\":{\"type\":\"structure\",\"exception\":true,"                 \
	"\"error\":{\"code\":\"ThingBusy\",\"httpStatusCode\":409},"           \
	"\"retryable\":{\"throttling\":true},"                                 \
	"\"members\":{\"Holder\":{\"shape\":\"Str\"}}},"                       \
	"\"Ids\":{\"type\":\"list\",\"min\":1,\"member\":{\"shape\":\"Str\"}}" \
	","                                                                    \
	"\"Flat\":{\"type\":\"list\",\"member\":{\"shape\":\"Str\"}},"         \
	"\"Tags\":{\"type\":\"map\",\"key\":{\"shape\":\"Str\"},"              \
	"\"value\":{\"shape\":\"Str\"}},"                                      \
	"\"Str\":{\"type\":\"string\"},\"Bool\":{\"type\":\"boolean\"},"       \
	"\"Blob\":{\"type\":\"blob\"},\"Time\":{\"type\":\"timestamp\"},"      \
	"\"Hidden\":{\"type\":\"string\",\"sensitive\":true,\"min\":40},"      \
	"\"Int\":{\"type\":\"integer\",\"min\":5},"                            \
	"\"Kind\":{\"type\":\"string\",\"enum\":[\"t3.small\",\"t3.medium\"]}" \
	"}}"

/* Operations and shapes for the rest protocols. */
#define TOY_REST                                                               \
	"\"operations\":{"                                                     \
	"\"PutThing\":{\"http\":{\"method\":\"PUT\","                          \
	"\"requestUri\":\"/things/{Name}/{Rest+}?x=1\"},"                      \
	"\"input\":{\"shape\":\"PutIn\"}},"                                    \
	"\"PutData\":{\"http\":{\"method\":\"PUT\",\"requestUri\":\"/data\"}," \
	"\"httpChecksum\":{\"requestAlgorithmMember\":\"Algorithm\","          \
	"\"requestChecksumRequired\":true},"                                   \
	"\"input\":{\"shape\":\"PutDataIn\"}},"                                \
	"\"PutOld\":{\"http\":{\"method\":\"PUT\",\"requestUri\":\"/old\"},"   \
	"\"httpChecksumRequired\":true,"                                       \
	"\"input\":{\"shape\":\"PutPartIn\"}},"                                \
	"\"GetThing\":{\"http\":{\"method\":\"GET\",\"requestUri\":\"/"        \
	"thing\"},"                                                            \
	"\"output\":{\"shape\":\"GetOut\"},\"errors\":[{\"shape\":\"Busy\"}]}" \
	","                                                                    \
	"\"GetData\":{\"http\":{\"method\":\"GET\",\"requestUri\":\"/data\"}," \
	"\"output\":{\"shape\":\"DataOut\"},\"errors\":[{\"shape\":\"Busy\"}]" \
	"},"                                                                   \
	"\"GetPart\":{\"http\":{\"method\":\"GET\",\"requestUri\":\"/part\"}," \
	"\"output\":{\"shape\":\"PartOut\"},\"errors\":[{\"shape\":\"Busy\"}]" \
	"},"                                                                   \
	"\"Ping\":{\"http\":{\"method\":\"GET\",\"requestUri\":\"/ping\"},"    \
	"\"output\":{\"shape\":\"PingOut\"}}},"                                \
	"\"shapes\":{"                                                         \
	"\"PutIn\":{\"type\":\"structure\",\"members\":{"                      \
	"\"Name\":{\"shape\":\"Str\",\"location\":\"uri\"},"                   \
	"\"Rest\":{\"shape\":\"Str\",\"location\":\"uri\"},"                   \
	"\"Note\":{\"shape\":\"Str\",\"location\":\"header\","                 \
	"\"locationName\":\"x-note\"},"                                        \
	"\"Notes\":{\"shape\":\"Strs\",\"location\":\"header\","               \
	"\"locationName\":\"x-notes\"},"                                       \
	"\"Meta\":{\"shape\":\"Map\",\"location\":\"headers\","                \
	"\"locationName\":\"x-meta-\"},"                                       \
	"\"Ask\":{\"shape\":\"Strs\",\"location\":\"querystring\","            \
	"\"locationName\":\"ask\"},"                                           \
	"\"More\":{\"shape\":\"Map\",\"location\":\"querystring\"},"           \
	"\"Text\":{\"shape\":\"Str\"}}},"                                      \
	"\"PutDataIn\":{\"type\":\"structure\",\"payload\":\"Body\","          \
	"\"members\":{\"Body\":{\"shape\":\"Data\"},"                          \
	"\"Sum\":{\"shape\":\"Str\",\"location\":\"header\","                  \
	"\"locationName\":\"x-amz-checksum-sha1\"},"                           \
	"\"Algorithm\":{\"shape\":\"Str\",\"location\":\"header\","            \
	"\"locationName\":\"x-amz-sdk-checksum-algorithm\"}}},"                \
	"\"PutPartIn\":{\"type\":\"structure\",\"payload\":\"Part\","          \
	"\"members\":{\"Part\":{\"shape\":\"Part\"}}},"                        \
	"\"GetOut\":{\"type\":\"structure\",\"members\":{"                     \
	"\"Status\":{\"shape\":\"Int\",\"location\":\"statusCode\"},"          \
	"\"Note\":{\"shape\":\"Str\",\"location\":\"header\","                 \
	"\"locationName\":\"X-Note\"},"                                        \
	"\"Notes\":{\"shape\":\"Strs\",\"location\":\"header\","               \
	"\"locationName\":\"X-Notes\"},"                                       \
	"\"Dates\":{\"shape\":\"Dates\",\"location\":\"header\","              \
	"\"locationName\":\"X-Dates\"},"                                       \
	"\"Doc\":{\"shape\":\"Str\",\"location\":\"header\","                  \
	"\"jsonvalue\":true,\"locationName\":\"X-Doc\"},"                      \
	"\"Meta\":{\"shape\":\"Map\",\"location\":\"headers\","                \
	"\"locationName\":\"x-meta-\"},"                                       \
	"\"Count\":{\"shape\":\"Int\"},"                                       \
	"\"Part\":{\"shape\":\"Part\"},"                                       \
	"\"Map\":{\"shape\":\"Map\"},"                                         \
	"\"Any\":{\"shape\":\"Any\"},"                                         \
	"\"Flat\":{\"shape\":\"Strs\",\"flattened\":true}}},"                  \
	"\"DataOut\":{\"type\":\"structure\",\"payload\":\"Body\","            \
	"\"members\":{\"Body\":{\"shape\":\"Data\"},"                          \
	"\"Size\":{\"shape\":\"Int\",\"location\":\"header\","                 \
	"\"locationName\":\"X-Size\"}}},"                                      \
	"\"PartOut\":{\"type\":\"structure\",\"payload\":\"Part\","            \
	"\"members\":{\"Part\":{\"shape\":\"Part\"}}},"                        \
	"\"PingOut\":{\"type\":\"structure\",\"members\":{"                    \
	"\"Note\":{\"shape\":\"Str\",\"location\":\"header\","                 \
	"\"locationName\":\"X-Note\"}}},"                                      \
	"\"Part\":{\"type\":\"structure\",\"members\":{"                       \
	"\"Kind\":{\"shape\":\"Str\",\"xmlAttribute\":true},"                  \
	"\"Made\":{\"shape\":\"Time\"},\"Text\":{\"shape\":\"Str\"},"          \
	"\"Data\":{\"shape\":\"Blob\"},\"Inner\":{\"shape\":\"Part\"},"        \
	"\"List\":{\"shape\":\"Strs\"}}},"                                     \
	"\"Busy\":{\"type\":\"structure\",\"exception\":true,"                 \
	"\"error\":{\"code\":\"ThingBusy\",\"httpStatusCode\":409},"           \
	"\"members\":{\"Holder\":{\"shape\":\"Str\"},"                         \
	"\"Note\":{\"shape\":\"Str\",\"location\":\"header\","                 \
	"\"locationName\":\"X-Note\"}}},"                                      \
	"\"Any\":{\"type\":\"structure\",\"members\":{},\"document\":true},"   \
	"\"Strs\":{\"type\":\"list\",\"member\":{\"shape\":\"Str\"}},"         \
	"\"Dates\":{\"type\":\"list\",\"member\":{\"shape\":\"Time\"}},"       \
	"\"Map\":{\"type\":\"map\",\"key\":{\"shape\":\"Str\"},"               \
	"\"value\":{\"shape\":\"Str\"}},"                                      \
	"\"Data\":{\"type\":\"blob\",\"streaming\":true},"                     \
	"\"Str\":{\"type\":\"string\"},\"Blob\":{\"type\":\"blob\"},"          \
	"\"Time\":{\"type\":\"timestamp\"},\"Int\":{\"type\":\"integer\"}}}"

#define TOY_WAITERS                                                            \
	"{\"version\":2,\"waiters\":{\"ThingReady\":{"                         \
	"\"operation\":\"DescribeThings\",\"delay\":15,\"maxAttempts\":40,"    \
	"\"acceptors\":[{\"matcher\":\"pathAll\",\"state\":\"success\","       \
	"\"argument\":\"Things[].On\",\"expected\":true},"                     \
	"{\"matcher\":\"status\",\"state\":\"retry\",\"expected\":404},"       \
	"{\"matcher\":\"error\",\"state\":\"failure\","                        \
	"\"expected\":\"ThingBusy\"}]}}}"

#define TOY_PAGES                                                              \
	"{\"pagination\":{\"DescribeThings\":{\"input_token\":\"NextToken\","  \
	"\"output_token\":[\"NextToken\",\"More\"],"                           \
	"\"limit_key\":\"MaxResults\",\"result_key\":\"Things\"}}}"

struct toy {
	struct hga_buf image;
	struct hga_aws_image *img;
	const struct hga_aws_svc *svc;
};

/* Compiles and opens; aborts the test when that fails. */
__attribute__((unused)) static void toy_open(struct toy *t, const char *service)
{
	bool things = strstr(service, "DescribeThings") != NULL;
	struct hga_modelc_src src = {
	    .name = HGA_STR("toy"),
	    .service = hga_str(service),
	    .waiters = things ? HGA_STR(TOY_WAITERS) : HGA_STR(""),
	    .paginators = things ? HGA_STR(TOY_PAGES) : HGA_STR(""),
	    .ruleset = HGA_STR("{ \"version\" : \"1.0\" }"),
	};
	struct hga_modelc *c = hga_modelc_new(true);
	struct hga_err err;

	memset(t, 0, sizeof(*t));
	hga_buf_init(&t->image, 1 << 24);
	if (c == NULL || hga_modelc_add(c, &src, &err) < 0 ||
	    hga_modelc_finish(c, &t->image, &err) < 0 ||
	    hga_aws_image_open(&t->img, t->image.data, t->image.len, false,
	                       &err) < 0) {
		printf("Bail out! %s\n", c == NULL ? "memory" : err.msg);
		exit(1);
	}
	hga_modelc_free(c);
	t->svc = hga_aws_svc_find(t->img, HGA_STR("toy"));
}

__attribute__((unused)) static void toy_close(struct toy *t)
{
	hga_aws_image_free(t->img);
	hga_buf_release(&t->image);
}

/* A JSON text as a value; the caller frees *tape. */
__attribute__((unused)) static struct hga_val toy_json(const char *text,
                                                       struct hga_vtape **tape)
{
	struct hga_err err;

	if (hga_json_parse(hga_str(text), 1 << 24, tape, &err) < 0) {
		printf("Bail out! %s: %s\n", text, err.msg);
		exit(1);
	}
	return hga_vtape_root(*tape);
}

#endif
